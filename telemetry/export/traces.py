"""Optional spans, on if OTEL_TRACES_EXPORTER names an exporter.

They come from opentelemetry-instrumentation-asgi. Its metrics are off: they cost a hundred
times as much as ours and record less (see `asgi`).
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

from telemetry.logs.failed_requests import note_trace
from telemetry.otlp.exporters import console_exporter, otlp_exporter
from telemetry.settings.library import Settings


def provide(settings: Settings, resource: Resource) -> TracerProvider | None:
    """Set a global tracer provider with the configured exporters.

    Returns:
        The provider; None if the app has set its own, which stays in use unchanged.
    """
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
    """Export queued spans."""
    provider: Any = trace.get_tracer_provider()
    if getattr(provider, "telemetry_own", False):
        provider.force_flush(int(timeout_s * 1000))


def add_spans(app: Any) -> Any:
    """Wrap ``app``, so that each request has a server span."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    return OpenTelemetryMiddleware(_NotingTraces(app), meter_provider=NoOpMeterProvider())


class _NotingTraces:
    """Notes the span on an exception of the app, while the span is current."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        except BaseException as error:
            note_trace(error)
            raise
