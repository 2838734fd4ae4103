"""Exporters and points of the OpenTelemetry protocol."""
