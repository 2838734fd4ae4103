"""`telemetry run`: any ASGI server with any app, unchanged, instrumented."""
