"""Spans, an option: on where OTEL_TRACES_EXPORTER names an exporter.

They come from opentelemetry-instrumentation-asgi with its metrics off, which cost a
hundred times ours and lose what matters (see `asgi`).
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
)

from telemetry.otlp.exporters import console_exporter, otlp_exporter
from telemetry.settings.library import Settings


def provide(settings: Settings, resource: Resource) -> TracerProvider | None:
    """A tracer provider with the configured exporters, made the global one; None where the
    app has set one of its own, which is then used as it is."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    provider = TracerProvider(resource=resource)
    provider.telemetry_own = True  # type: ignore[attr-defined]  # for `frameworks`
    for name in settings.traces_exporters:
        if name == "console":
            provider.add_span_processor(SimpleSpanProcessor(console_exporter("traces")))
        else:
            provider.add_span_processor(BatchSpanProcessor(otlp_exporter(settings, "traces")))
    trace.set_tracer_provider(provider)
    return provider


def flush(timeout_s: float) -> None:
    """Export the spans that wait."""
    provider: Any = trace.get_tracer_provider()
    if getattr(provider, "telemetry_own", False):
        provider.force_flush(int(timeout_s * 1000))


def spans(app: Any) -> Any:
    """``app`` with a server span a request."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    return OpenTelemetryMiddleware(app, meter_provider=NoOpMeterProvider())
