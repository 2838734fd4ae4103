"""PromQL of the panels about alerts, services and the gateway, from the catalog's names."""

from __future__ import annotations

from telemetry import catalog as c
from telemetry.dashboards.selections import LINES, SERVICE
from telemetry.promql.functions import (
    RANGE,
    RATE,
    fresh,
    greater,
    or_zero,
    quantile,
    rate,
    share,
    target_states,
    top,
    where,
)

_REQUESTS = f"{c.HTTP_SERVER_REQUEST_DURATION.prometheus}_count"
_DURATION = c.HTTP_SERVER_REQUEST_DURATION.prometheus
_DISPATCH = c.GATEWAY_KERNEL_DISPATCH.prometheus
_DISPATCH_DURATION = c.GATEWAY_KERNEL_DISPATCH_DURATION.prometheus
_FAILED = 'http_response_status_code=~"5.."'
_NOT_OK = 'status!="ok"'


def alerts_firing(severity: str) -> str:
    """Count the firing alerts of a severity.

    ALERTS has Prometheus' own alerts only. The gateway is notified of Loki's and Grafana's too,
    if it is a channel: hence the greater of the two.
    """
    only = f'severity="{severity}"'
    return greater(
        f'count(ALERTS{{alertstate="firing", {only}}})',
        f"sum({fresh(c.GATEWAY_ALERTS_FIRING.prometheus, only)})",
    )


def _error_share(by: str = "", matchers: str = "", window: str = RATE) -> str:
    failed = ", ".join(part for part in (matchers, _FAILED) if part)
    return share(rate(_REQUESTS, by, failed, window), rate(_REQUESTS, by, matchers, window))


SERVICES_DOWN = or_zero("count(min by (job, instance) (up) == 0)")
SERVICES_UP = target_states('job=~"$service"')
SERVICES_DOWN_SELECTED = or_zero('count(min by (job, instance) (up{job=~"$service"}) == 0)')
ERROR_SHARE = or_zero(_error_share())
ERROR_SHARE_SELECTED = or_zero(_error_share("", SERVICE))
ERROR_SHARE_BY_SERVICE = _error_share("job, handle", SERVICE)
REQUESTS_BY_SERVICE = rate(_REQUESTS, "job")
REQUESTS_SELECTED = or_zero(rate(_REQUESTS, "", SERVICE))
_BY_ROUTE = "job, http_request_method, http_route"
_ROUTE_RANKING = f"sum by ({_BY_ROUTE}) (increase({_REQUESTS}{where(SERVICE)}[{RANGE}] @ end()))"
REQUESTS_BY_ROUTE = top(
    LINES, f"({rate(_REQUESTS, _BY_ROUTE, SERVICE)})", _ROUTE_RANKING, _BY_ROUTE
)
FAILURES_BY_KIND = rate(
    _REQUESTS,
    "job, http_response_status_code, error_type",
    f'{SERVICE}, http_response_status_code=~"4..|5.."',
)
FAILED_BY_SERVICE = rate(_REQUESTS, "job", _FAILED)
P95_BY_SERVICE = quantile(0.95, _DURATION, "job")
# Without requests a quantile is NaN, which every comparison drops.
P95_SELECTED = or_zero(f"{quantile(0.95, _DURATION, '', SERVICE)} > 0")
DURATION_BUCKETS = rate(f"{_DURATION}_bucket", "le", SERVICE)
ACTIVE_BY_SERVICE = f"sum by (job) {fresh(c.HTTP_SERVER_ACTIVE_REQUESTS.prometheus, SERVICE)}"
ACTIVE_SELECTED = or_zero(f"sum({fresh(c.HTTP_SERVER_ACTIVE_REQUESTS.prometheus, SERVICE)})")
REQUEST_BYTES = rate(f"{c.HTTP_SERVER_REQUEST_BODY_SIZE.prometheus}_sum", "job", SERVICE)
RESPONSE_BYTES = rate(f"{c.HTTP_SERVER_RESPONSE_BODY_SIZE.prometheus}_sum", "job", SERVICE)
WS_CONNECTIONS = f"sum by (job) {fresh(c.WEBSOCKET_SERVER_ACTIVE_CONNECTIONS.prometheus, SERVICE)}"
WS_SELECTED = or_zero(f"sum({fresh(c.WEBSOCKET_SERVER_ACTIVE_CONNECTIONS.prometheus, SERVICE)})")
WS_MESSAGES = rate(c.WEBSOCKET_SERVER_MESSAGES.prometheus, "job, network_io_direction", SERVICE)
WS_DURATION_P50 = quantile(0.5, c.WEBSOCKET_SERVER_CONNECTION_DURATION.prometheus, "job", SERVICE)

ROUTES = {
    "Requests/s": rate(_REQUESTS, _BY_ROUTE, SERVICE, RANGE),
    "5xx": _error_share(_BY_ROUTE, SERVICE, RANGE),
    "p50": f"{quantile(0.5, _DURATION, _BY_ROUTE, SERVICE, RANGE)} > 0",
    "p95": f"{quantile(0.95, _DURATION, _BY_ROUTE, SERVICE, RANGE)} > 0",
}
"""Columns of the routes' table: heading and query, by service, method and route."""


def request_quantile(q: float) -> str:
    """Return a quantile of the selected services' request duration, s."""
    return quantile(q, _DURATION, "", SERVICE)


_PER_WORKER = "job, worker"
WORKER_CPU = rate(c.PROCESS_CPU_TIME.prometheus, _PER_WORKER, SERVICE)
WORKER_MEMORY = f"sum by ({_PER_WORKER}) {fresh(c.PROCESS_MEMORY_USAGE.prometheus, SERVICE)}"
WORKER_FILES = (
    f"sum by ({_PER_WORKER}) {fresh(c.PROCESS_UNIX_FILE_DESCRIPTOR_COUNT.prometheus, SERVICE)}"
)
WORKER_THREADS = f"sum by ({_PER_WORKER}) {fresh(c.PROCESS_THREAD_COUNT.prometheus, SERVICE)}"
WORKER_UPTIME = f"max by ({_PER_WORKER}) {fresh(c.PROCESS_UPTIME.prometheus, SERVICE)}"
WORKER_LAG = quantile(0.99, c.ASYNCIO_EVENT_LOOP_LAG.prometheus, _PER_WORKER, SERVICE)
WORKER_GC = rate(c.CPYTHON_GC_COLLECTIONS.prometheus, "job, cpython_gc_generation", SERVICE)

# --- gateway ----------------------------------------------------------------------------------


def dispatch_quantile(q: float, matchers: str = SERVICE) -> str:
    """Return a quantile of the kernel's dispatch duration, s."""
    return quantile(q, _DISPATCH_DURATION, "", matchers)


WEBSOCKETS = or_zero(f"sum({fresh(c.GATEWAY_WS_CONNECTIONS_ACTIVE.prometheus)})")
DISPATCHES = rate(_DISPATCH, "status")
DISPATCHES_SELECTED = rate(_DISPATCH, "source, status", SERVICE)
DISPATCH_FAILURES = or_zero(rate(_DISPATCH, "", _NOT_OK))
DISPATCH_QUEUE = f"sum by (job, handle) {fresh(c.GATEWAY_DISPATCH_QUEUE_DEPTH.prometheus, SERVICE)}"
GATEWAY_PATHS = rate(c.GATEWAY_HTTP_REQUESTS.prometheus, "method, path, status", SERVICE)
GATEWAY_PATH_P95 = quantile(
    0.95, c.GATEWAY_HTTP_REQUEST_DURATION.prometheus, "method, path", SERVICE
)
NOTICES = rate(c.GATEWAY_NOTIFICATIONS.prometheus, "status, severity", SERVICE) + " * 60"
