"""The proxy's HTTP API."""
