"""Make containerised ASGI services observable.

    import telemetry
    app = telemetry.instrument(app)

To leave the app unchanged, run ``telemetry run app:app`` instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telemetry.errors import ConfigError, TelemetryError
from telemetry.instrumentation import (
    current_pipeline,
    flush,
    flush_metrics,
    instrument,
    shutdown,
    start,
)

if TYPE_CHECKING:
    from telemetry import metrics, testing

__all__ = [
    "ConfigError",
    "TelemetryError",
    "current_pipeline",
    "flush",
    "flush_metrics",
    "instrument",
    "metrics",
    "shutdown",
    "start",
    "testing",
]


def __getattr__(name: str) -> Any:
    # Imported on first access: an app that is only instrumented needs neither.
    if name in ("metrics", "testing"):
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
