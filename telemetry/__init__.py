"""Make containerised ASGI services observable.

    import telemetry
    app = telemetry.instrument(app)

or, with no change to the app, ``telemetry run app:app``.
"""

from __future__ import annotations

from telemetry.errors import ConfigError, TelemetryError
from telemetry.instrumentation import (
    current_pipeline,
    flush,
    flush_metrics,
    instrument,
    shutdown,
    start,
)

__all__ = [
    "ConfigError",
    "TelemetryError",
    "current_pipeline",
    "flush",
    "flush_metrics",
    "instrument",
    "shutdown",
    "start",
]
