"""Files, processes, ports, JSON over HTTP, Docker: nothing of telemetry itself."""
