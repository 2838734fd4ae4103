"""A server of `/metrics` on a separate port, instead of a path of the app."""

from __future__ import annotations

import http.server
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from telemetry.export.exposition import MetricsEndpoint
from telemetry.metrics.points import HistogramValue, Point
from telemetry.naming import label_name

_log = logging.getLogger(__name__)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # Every worker listens. The kernel picks one, which reports totals for all.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


def serve_metrics(page: Callable[[bool], list[bytes]], port: int, host: str = "127.0.0.1") -> None:
    """Serve `/metrics` in a daemon thread.

    Args:
        page: renders the page's parts, in OpenMetrics if its argument is True.
        port: the port to listen on; other workers of the run may listen on it too.
        host: the address to listen on.
    """
    endpoint = MetricsEndpoint(page)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404, "metrics are at /metrics")
                return
            body, headers = endpoint.render(
                self.headers.get("accept", ""), self.headers.get("accept-encoding", "")
            )
            self.send_response(200)
            for name, value in headers:
                self.send_header(name.decode(), value.decode())
            self.end_headers()
            self.wfile.writelines(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # scrapes are too frequent to log

    try:
        server = _Server((host, port), Handler)
    except OSError as error:
        _log_port_unavailable(host, port, error, "TELEMETRY_METRICS_PORT")
        return
    threading.Thread(target=server.serve_forever, name="telemetry-port", daemon=True).start()


def _log_port_unavailable(host: str, port: int, error: OSError, setting: str) -> None:
    _log.error(
        "telemetry: can't serve metrics on %s:%s: %s. Free the port, or set %s to another.",
        host,
        port,
        error,
        setting,
    )


class _Families:
    """Our points as a collector of prometheus_client."""

    def __init__(self, points: Callable[[], list[Point]]) -> None:
        self._points = points

    def collect(self) -> Iterable[Any]:
        families: dict[str, list[Point]] = {}
        for point in self._points():
            families.setdefault(point.metric.name, []).append(point)
        return [_family(points) for points in families.values()]


def _family(points: list[Point]) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    metric = points[0].metric
    names = sorted({key for point in points for key, _ in point.key[1]})
    labels = [label_name(name) for name in names]
    family: Any
    if metric.kind == "histogram":
        family = HistogramMetricFamily(metric.prometheus, metric.description, labels=labels)
    elif metric.kind == "counter":
        family = CounterMetricFamily(metric.prometheus, metric.description, labels=labels)
    else:
        family = GaugeMetricFamily(metric.prometheus, metric.description, labels=labels)
    for point in points:
        given = dict(point.key[1])
        values = [given.get(name, "") for name in names]
        value = point.value
        if isinstance(value, HistogramValue):
            total, buckets = 0.0, []
            bounds = [*(repr(float(bound)) for bound in metric.buckets), "+Inf"]
            for bound, count in zip(bounds, value.buckets, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric(values, buckets, value.sum)
        elif value is not None:
            family.add_metric(values, value)
    return family


def prometheus_reader(host: str, port: int, own_points: Callable[[], list[Point]]) -> Any:
    """Create the OpenTelemetry Prometheus exporter, for OTEL_METRICS_EXPORTER=prometheus.

    It serves the app's own instruments and ours.

    Args:
        host: address to listen on.
        port: port to listen on.
        own_points: collects our points.
    """
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(_Families(own_points))
    reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        _log_port_unavailable(host, port, error, "OTEL_EXPORTER_PROMETHEUS_PORT")
    return reader
