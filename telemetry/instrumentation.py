"""`instrument`, and the pipeline of the process."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from telemetry.settings.library import Settings

if TYPE_CHECKING:
    from telemetry.export.pipeline import Pipeline

App = TypeVar("App")

_pipeline: Pipeline | None = None
_lock = threading.Lock()


def instrument(
    app: App,
    *,
    service_name: str = "",
    namespace: str = "",
    metrics_path: str | None = None,
    resource: Mapping[str, str] | None = None,
) -> App:
    """Wrap an ASGI app: add HTTP and WebSocket metrics, logs, `/metrics` and OTLP export.

    Args:
        app: any ASGI 3 app. One that is instrumented already is returned unchanged.
        service_name: used if neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES names the
            service.
        namespace: also export the HTTP metrics as ``<namespace>_http_requests_total`` and
            ``<namespace>_http_request_duration_seconds``.
        metrics_path: the path of the metrics page, "" for none (default: TELEMETRY_METRICS_PATH).
        resource: further resource attributes, such as ``{"deployment.environment": "prod"}``.

    Returns:
        The wrapped app. A type checker sees the app's own type, because the wrapper passes all
        other attributes through. If OTEL_SDK_DISABLED is true, the app itself.

    Raises:
        ConfigError: an OTEL_* or TELEMETRY_* variable has an invalid value.
    """
    from telemetry.asgi.middleware import TelemetryMiddleware

    if isinstance(app, TelemetryMiddleware):
        return cast(App, app)
    current = _get_or_create(service_name, resource)
    if current.settings.disabled:
        return app
    if namespace:
        current.add_namespace(namespace)
    if current.settings.traces_exporters:
        from telemetry.export import traces

        app = traces.add_spans(app)
    path = current.settings.metrics_path if metrics_path is None else metrics_path
    return cast(App, TelemetryMiddleware(cast(Any, app), current, path))


def start(*, service_name: str = "", resource: Mapping[str, str] | None = None) -> Pipeline:
    """Start exporting this process's metrics and logs, without an ASGI app.

    Args:
        service_name: used if the environment names no service.
        resource: further resource attributes.

    Raises:
        ConfigError: an OTEL_* or TELEMETRY_* variable has an invalid value.
    """
    current = _get_or_create(service_name, resource)
    current.start()
    return current


def current_pipeline() -> Pipeline | None:
    """Get the pipeline of this process; None before the first `instrument` or `start`."""
    return _pipeline


def flush(timeout_s: float = 5.0) -> bool:
    """Export all metrics and logs now; False if that failed or took longer. Blocks: call it
    in a thread."""
    return _pipeline is None or _pipeline.flush(timeout_s)


def flush_metrics(timeout_s: float = 5.0) -> bool:
    """Export all metrics now; False if that failed or took longer. Blocks."""
    return _pipeline is None or _pipeline.flush_metrics(timeout_s)


def shutdown() -> None:
    """Export what is left and stop. A later `instrument` or `start` creates a new pipeline."""
    old = replace_pipeline(None)
    if old is not None:
        old.shutdown()


def replace_pipeline(pipeline: Pipeline | None) -> Pipeline | None:
    """Make `instrument` and `start` use another pipeline from now on, for `telemetry.testing`.

    Returns:
        The previous pipeline.
    """
    global _pipeline
    with _lock:
        old, _pipeline = _pipeline, pipeline
    return old


def _get_or_create(service_name: str, resource: Mapping[str, str] | None) -> Pipeline:
    from telemetry import metrics
    from telemetry.export.pipeline import Pipeline

    global _pipeline
    with _lock:
        if _pipeline is None:
            _pipeline = Pipeline(
                Settings.from_env(os.environ),
                metrics.current(),
                service_name=service_name,
                resource=resource,
            )
        return _pipeline
