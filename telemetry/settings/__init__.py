"""Settings: environment variables, defaults, secrets."""
