"""Files, processes, ports, JSON over HTTP, Docker: helpers that know nothing of telemetry."""
