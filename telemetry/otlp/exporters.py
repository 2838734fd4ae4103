"""The OpenTelemetry SDK's exporters of each signal, over gRPC or HTTP.

They are imported only if the settings name them: gRPC alone takes longer to import than the
rest of the library.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

from telemetry.otlp.points import flag_ended
from telemetry.settings.library import Settings

Signal = Literal["metrics", "logs", "traces"]

_PACKAGE = "opentelemetry.exporter.otlp.proto"
_OTLP = {
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
    "traces": ("trace_exporter", "OTLPSpanExporter"),
}
_CONSOLE = {
    "metrics": ("opentelemetry.sdk.metrics.export", "ConsoleMetricExporter"),
    "logs": ("opentelemetry.sdk._logs.export", "ConsoleLogRecordExporter"),
    "traces": ("opentelemetry.sdk.trace.export", "ConsoleSpanExporter"),
}


def console_exporter(signal: Signal) -> Any:
    """Create the SDK's exporter that prints a signal."""
    module, name = _CONSOLE[signal]
    return getattr(import_module(module), name)()


def otlp_exporter(settings: Settings, signal: Signal) -> Any:
    """Create the SDK's OTLP exporter of a signal.

    It reads OTEL_EXPORTER_OTLP_* itself. If no address is set, it gets the local Collector's.
    """
    otlp = settings.otlp[signal]
    by_grpc = otlp.protocol == "grpc"
    module, name = _OTLP[signal]
    kind = getattr(import_module(f"{_PACKAGE}.{'grpc' if by_grpc else 'http'}.{module}"), name)
    options: dict[str, Any] = {}
    if not otlp.given and by_grpc:
        options = {"endpoint": otlp.address, "insecure": True}
    elif not otlp.given:
        options = {"endpoint": f"{otlp.address}/v1/{signal}"}
    if signal == "metrics":
        kind = _flagging_grpc(kind) if by_grpc else _flagging_http(kind)
        if not otlp.timeout_given:
            options["timeout"] = settings.export_timeout_s
    return kind(**options)


def _flagging_grpc(kind: Any) -> Any:
    class Exporter(kind):
        def _translate_data(self, data: Any) -> Any:
            return flag_ended(super()._translate_data(data))

    return Exporter


def _flagging_http(kind: Any) -> Any:
    class Exporter(kind):
        def _export_batch(self, export_request: Any) -> Any:
            return super()._export_batch(flag_ended(export_request))

    return Exporter


def exporters(settings: Settings, signal: Literal["metrics", "logs"]) -> list[Any]:
    """Create the exporters that OTEL_METRICS_EXPORTER or OTEL_LOGS_EXPORTER names.

    ``prometheus`` is not among them, because it is scraped.
    """
    names = settings.metrics_exporters if signal == "metrics" else settings.logs_exporters
    return [
        console_exporter(signal) if name == "console" else otlp_exporter(settings, signal)
        for name in names
        if name in ("console", "otlp")
    ]
