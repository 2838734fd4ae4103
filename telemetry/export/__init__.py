"""OTLP export and the metrics page of the registry."""
