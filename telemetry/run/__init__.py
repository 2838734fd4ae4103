"""`telemetry run`: instrument any app on any ASGI server, both unchanged."""
