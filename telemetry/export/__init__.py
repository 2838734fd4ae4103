"""From the registry to the outside: OTLP export and the metrics page."""
