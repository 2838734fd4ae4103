"""PromQL of the panels, from the catalog's names: renaming a metric changes every query.

Selections: ``$handle``, ``$service``, ``$user_id`` are the dashboards' variables, whose "all"
also matches series without the label.
"""

from __future__ import annotations

from telemetry import catalog as c
from telemetry.promql.functions import (
    RANGE,
    RATE,
    STEP,
    daily_increase,
    exact_increase,
    fresh,
    greater,
    latest,
    or_zero,
    quantile,
    rate,
    recent_increase,
    rise,
    share,
    target_states,
    today,
    top,
    where,
)

HANDLE = 'handle=~"$handle"'
USER = 'user_id=~"$user_id"'
SERVICE = 'job=~"$service", handle=~"$handle"'
LINES = 20  # more series in one graph are unreadable; chosen by judgement, not measured

_UP = c.PLATFORM_CONTAINER_UP.prometheus
_HEALTHY = c.PLATFORM_CONTAINER_HEALTHY.prometheus
_CPU = c.PLATFORM_CONTAINER_CPU.prometheus
_MEMORY = c.PLATFORM_CONTAINER_MEMORY.prometheus
_LIMIT = c.PLATFORM_CONTAINER_MEMORY_LIMIT.prometheus
_RECEIVE = c.PLATFORM_CONTAINER_NETWORK_RECEIVE.prometheus
_TRANSMIT = c.PLATFORM_CONTAINER_NETWORK_TRANSMIT.prometheus
_RESTARTS = c.PLATFORM_CONTAINER_RESTARTS.prometheus
_OOM_KILLS = c.PLATFORM_CONTAINER_OOM_KILLS.prometheus
_STATES = c.PLATFORM_CONTAINERS_TOTAL.prometheus
_PROVISIONS = c.PLATFORM_PROVISION_DURATION.prometheus
_DESTROYS = c.PLATFORM_DESTROY_DURATION.prometheus
_REQUESTS = f"{c.HTTP_SERVER_REQUEST_DURATION.prometheus}_count"
_DURATION = c.HTTP_SERVER_REQUEST_DURATION.prometheus
_DISPATCH = c.GATEWAY_KERNEL_DISPATCH.prometheus
_DISPATCH_DURATION = c.GATEWAY_KERNEL_DISPATCH_DURATION.prometheus
_COST = c.PROXY_API_COST.prometheus
_CALLS = c.PROXY_API_CALLS.prometheus
_TOKENS = c.PROXY_API_TOKENS.prometheus
_COST_TODAY = c.PROXY_USER_COST_TODAY.prometheus
_BUDGET = c.PROXY_USER_BUDGET.prometheus
_FAILED = 'http_response_status_code=~"5.."'
_NOT_OK = 'status!="ok"'
# Disjoint kinds of tokens: cached input is not part of input; reasoning is part of output.
_IN = 'kind=~"input|cache_read|cache_write|cache_write_1h"'
_OUT = 'kind="output"'


def _peak(metric: str, by: str = "handle", matchers: str = HANDLE) -> str:
    return f"max by ({by}) (max_over_time({metric}{where(matchers)}[{RANGE}] @ end()))"


def _biggest(metric: str, expression: str) -> str:
    """Keep ``expression`` for the containers whose ``metric`` was highest in the time range."""
    return top(LINES, f"({expression})", _peak(metric), "handle")


def _error_share(by: str = "", matchers: str = "", window: str = RATE) -> str:
    failed = ", ".join(part for part in (matchers, _FAILED) if part)
    return share(rate(_REQUESTS, by, failed, window), rate(_REQUESTS, by, matchers, window))


# --- alerts -------------------------------------------------------------------------------------


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


# --- containers ---------------------------------------------------------------------------------

CONTAINERS_DOWN = or_zero(f"count({latest(_UP)} == 0)")
# Docker has seven states: show those that a container was in, and always `running`.
CONTAINERS_BY_STATE = (
    f"sum by (status) {fresh(_STATES)} and on (status) "
    f"(max by (status) (max_over_time({_STATES}[{RANGE}] @ end())) > 0 "
    f'or max by (status) ({_STATES}{{status="running"}}))'
)
PROVISION_SUCCESS = share(
    exact_increase(f"{_PROVISIONS}_count", matchers='outcome="ok"'),
    exact_increase(f"{_PROVISIONS}_count"),
)
PROVISIONS = rate(f"{_PROVISIONS}_count", "outcome") + " * 60"
PROVISION_P95 = quantile(0.95, _PROVISIONS)
DESTROY_P95 = quantile(0.95, _DESTROYS)

CONTAINER_STATE = f"min({latest(_UP, 'handle', HANDLE)}) or vector(-1)"
CONTAINER_HEALTH = f"min({latest(_HEALTHY, 'handle', HANDLE)}) or vector(-1)"
CONTAINER_CPU_NOW = or_zero(f"sum({latest(_CPU, 'handle', HANDLE)})")
CONTAINER_MEMORY_HIGHEST = or_zero(
    f"max({latest(_MEMORY, 'handle', HANDLE)} / ({latest(_LIMIT, 'handle', HANDLE)} > 0))"
)
CONTAINER_RESTARTS_COUNT = or_zero(f"sum({rise(_RESTARTS, RANGE, matchers=HANDLE)})")
CONTAINER_OOM_COUNT = or_zero(f"sum({rise(_OOM_KILLS, RANGE, matchers=HANDLE)})")
CONTAINER_CPU = _biggest(_CPU, latest(_CPU, "handle", HANDLE))
CONTAINER_MEMORY = _biggest(_MEMORY, latest(_MEMORY, "handle", HANDLE))
# Without a limit Docker reports the machine's memory, a line that would flatten all others.
_MACHINE = "max(sum by (instance) (system_memory_usage_bytes))"
CONTAINER_LIMIT = _biggest(
    _MEMORY,
    f"{latest(_LIMIT, 'handle', HANDLE)} > 0 "
    f"unless {latest(_LIMIT, 'handle', HANDLE)} >= on () group_left () (0.9 * {_MACHINE})",
)
CONTAINER_RECEIVE = _biggest(_RECEIVE, rate(_RECEIVE, "handle", HANDLE))
CONTAINER_TRANSMIT = _biggest(_RECEIVE, rate(_TRANSMIT, "handle", HANDLE))
CONTAINER_RESTARTS = _biggest(_RESTARTS, rise(_RESTARTS, "10m", matchers=HANDLE))
CONTAINER_OOM = _biggest(_OOM_KILLS, rise(_OOM_KILLS, "10m", matchers=HANDLE))
CONTAINER_UP = _biggest(_CPU, latest(_UP, "handle", HANDLE)) + (
    f" or {latest(_UP, 'handle', HANDLE)} == 0"
)
CONTAINER_HEALTHY = _biggest(_CPU, latest(_HEALTHY, "handle", HANDLE)) + (
    f" or {latest(_HEALTHY, 'handle', HANDLE)} == 0"
)
# "All" means all containers, without processes outside of containers.
_INSIDE = f'{HANDLE}, handle!=""'
CONTAINER_REQUESTS = top(
    LINES,
    f"({rate(_REQUESTS, 'job, handle', _INSIDE)})",
    f"sum by (job, handle) (increase({_REQUESTS}{where(_INSIDE)}[{RANGE}] @ end()))",
    "job, handle",
)
CONTAINER_FAILED = or_zero(rate(_REQUESTS, "", f"{_INSIDE}, {_FAILED}"))
# The handle of a provisioned container is also the name of its proxy user.
_USER_IS_HANDLE = 'user_id=~"$handle"'
_OWN = (
    f"and on (user_id) label_replace("
    f"group by (handle) (last_over_time({_RESTARTS}{where(HANDLE)}[{RANGE}] @ end())), "
    '"user_id", "$1", "handle", "(.*)")'
)
CONTAINER_COST_TODAY = or_zero(f"sum({today(_COST_TODAY, 'user_id', _USER_IS_HANDLE)} {_OWN})")
CONTAINER_COST = top(
    LINES,
    f"({exact_increase(_COST, 'user_id', _USER_IS_HANDLE, '1h')} {_OWN})",
    f"sum by (user_id) (max_over_time({_COST}{where(_USER_IS_HANDLE)}[{RANGE}] @ end()))",
    "user_id",
)

TABLE = {
    "State": latest(_UP),
    "Healthy": latest(_HEALTHY),
    "CPU": latest(_CPU),
    "Memory": latest(_MEMORY),
    "Of limit": f"{latest(_MEMORY)} / ({latest(_LIMIT)} > 0)",
    "Restarts": rise(_RESTARTS, RANGE),
    "OOM kills": rise(_OOM_KILLS, RANGE),
    "Received": rate(_RECEIVE, "handle"),
    "Sent": rate(_TRANSMIT, "handle"),
    "Cost today": (
        f"max by (handle) (label_replace({today(_COST_TODAY, 'user_id')}, "
        f'"handle", "$1", "user_id", "(.*)")) and on (handle) {_UP}'
    ),
}
"""Columns of the overview's table: heading and query, by handle."""


def dispatch_quantile(q: float, matchers: str = SERVICE) -> str:
    """Return a quantile of the kernel's dispatch duration, s."""
    return quantile(q, _DISPATCH_DURATION, "", matchers)


# --- services -----------------------------------------------------------------------------------

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

# --- gateway ------------------------------------------------------------------------------------

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

# --- cost ---------------------------------------------------------------------------------------

COST_TODAY = or_zero(f"sum({today(_COST_TODAY, 'user_id')})")
COST_TODAY_SELECTED = or_zero(f"sum({today(_COST_TODAY, 'user_id', USER)})")
COST_RANGE = or_zero(exact_increase(_COST, "", USER))
CALLS_RANGE = or_zero(exact_increase(_CALLS, "", USER))
TOKENS_IN_RANGE = or_zero(exact_increase(_TOKENS, "", f"{USER}, {_IN}"))
TOKENS_OUT_RANGE = or_zero(exact_increase(_TOKENS, "", f"{USER}, {_OUT}"))
COST_PER_HOUR = or_zero(exact_increase(_COST, "", "", "1h"))
COST_BY_DAY = daily_increase(_COST, "model", USER)
COST_BY_MODEL = f"{exact_increase(_COST, 'model', USER)} > 0"
TOKENS_IN_BY_DAY = daily_increase(_TOKENS, "", f"{USER}, {_IN}")
TOKENS_OUT_BY_DAY = daily_increase(_TOKENS, "", f"{USER}, {_OUT}")
_AI_COST = c.GATEWAY_AI_COST.prometheus
_DISPATCHED = 'status!="rejected"'
COST_PER_DISPATCH = or_zero(
    f"{exact_increase(_AI_COST)} / ({exact_increase(_DISPATCH, '', _DISPATCHED)} > 0)"
)
_DISPATCHED_1H = f"({exact_increase(_DISPATCH, '', _DISPATCHED, '1h')} > 0)"
COST_PER_DISPATCH_TREND = f"{exact_increase(_AI_COST, window='1h')} / {_DISPATCHED_1H}"
GATEWAY_TOKENS_PER_DISPATCH = (
    f"{exact_increase(c.GATEWAY_AI_TOKENS.prometheus, 'direction', window='1h')} / "
    f"on () group_left () {_DISPATCHED_1H}"
)


def _quota(matchers: str = "") -> str:
    return (
        f"{today(_COST_TODAY, 'user_id', matchers)} / "
        f"on (user_id) (max by (user_id) ({_BUDGET}{where(matchers)}) > 0)"
    )


QUOTA_HIGHEST_ALL = or_zero(f"max({_quota()})")
QUOTA_HIGHEST = or_zero(f"max({_quota(USER)})")
QUOTA_USED = f"topk({LINES}, {_quota(USER)})"
COST_TODAY_BY_USER = top(
    LINES,
    f"(max by (user_id) ({_COST_TODAY}{where(USER)}))",
    _peak(_COST_TODAY, "user_id", USER),
    "user_id",
)
UNPRICED_RANGE = or_zero(exact_increase(c.PROXY_UNPRICED_CALLS.prometheus))
UNPRICED = recent_increase(c.PROXY_UNPRICED_CALLS.prometheus, "10m", "model")
REJECTIONS_RANGE = or_zero(exact_increase(c.PROXY_QUOTA_REJECTIONS.prometheus, "", USER))
_REJECTIONS = c.PROXY_QUOTA_REJECTIONS.prometheus
REJECTIONS = top(
    LINES,
    recent_increase(_REJECTIONS, "5m", "user_id", USER),
    f"sum by (user_id) (increase({_REJECTIONS}{where(USER)}[{RANGE}] @ end()))",
    "user_id",
)
PROVIDER_FAILURES = or_zero(rate(c.PROXY_UPSTREAM_ERRORS.prometheus))
UPSTREAM_ERRORS = rate(c.PROXY_UPSTREAM_ERRORS.prometheus, "provider, kind") + " * 60"

USERS = {
    "Cost": exact_increase(_COST, "user_id", USER),
    "Cost today": today(_COST_TODAY, "user_id", USER),
    "Daily budget": f"max by (user_id) ({_BUDGET}{where(USER)})",
    "Budget used": _quota(USER),
    "Calls": exact_increase(_CALLS, "user_id", USER),
    "Tokens in": exact_increase(_TOKENS, "user_id", f"{USER}, {_IN}"),
    "Tokens out": exact_increase(_TOKENS, "user_id", f"{USER}, {_OUT}"),
    "Refused": exact_increase(_REJECTIONS, "user_id", USER),
}
"""Columns of the users' table: heading and query, by user."""

_MODEL = "gen_ai_request_model"
MODEL_P50 = quantile(0.5, c.GEN_AI_CLIENT_OPERATION_DURATION.prometheus, _MODEL)
MODEL_P95 = quantile(0.95, c.GEN_AI_CLIENT_OPERATION_DURATION.prometheus, _MODEL)
FIRST_TOKEN_P95 = quantile(0.95, c.GEN_AI_SERVER_TIME_TO_FIRST_TOKEN.prometheus, _MODEL)
TOKEN_TIME_P50 = quantile(0.5, c.GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN.prometheus, _MODEL)
CALL_SIZE_P95 = quantile(
    0.95, c.GEN_AI_CLIENT_TOKEN_USAGE.prometheus, f"{_MODEL}, gen_ai_token_type"
)

# --- annotations --------------------------------------------------------------------------------

# Grafana draws a mark at each step at which a query's value is above 0. The maximum over reporters
# suffices here; panels show the newest reporter's value, which costs more with many containers.


def starts(matchers: str) -> str:
    """Return 1 at each step in which a container started, by handle."""
    up = f"max by (handle) ({_UP}{where(matchers)}"
    return (
        f"{up}) == 1 unless on (handle) {up} offset {STEP}) == 1 "
        # Only if the platform reported before: when it starts, its containers do not.
        f"and on () count({_STATES} offset {STEP}) "
        f"or {_stepped(_RESTARTS, matchers)}"
    )


def kills(matchers: str) -> str:
    """Return 1 at each step in which a container that should run stopped, by handle."""
    selector = _UP + where(matchers)
    return (
        f"(max by (handle) ({selector}) == bool 0) > 0 and on (handle) "
        # Also a container that had started within the same step.
        f"(max by (handle) (max_over_time({selector}[{STEP}])) == 1 "
        f"or max by (handle) ({selector} offset {STEP}) == 1)"
    )


def oom_kills(matchers: str) -> str:
    """Count the processes killed within a step because memory ran out, by handle."""
    return _stepped(_OOM_KILLS, matchers)


def _stepped(metric: str, matchers: str) -> str:
    selector = metric + where(matchers)
    return f"max by (handle) ({selector}) - min by (handle) (min_over_time({selector}[{STEP}])) > 0"


_ALERTS = 'max by (alertname, severity, handle, job, user_id) (ALERTS{alertstate="firing"}'
_NOTIFIED = f"max by (severity) ({c.GATEWAY_ALERTS_FIRING.prometheus}"
FIRING = (
    # Only where an alert begins: a mark as long as its alert would colour all of a bad day.
    f"{_ALERTS}) unless {_ALERTS} offset {STEP}) or "
    # If Grafana evaluates, there are no ALERTS: use what the gateway was notified of.
    f'(label_replace({_NOTIFIED}) > {_NOTIFIED} offset {STEP}), "alertname", "Alerts firing", '
    f'"", "") unless on () count(ALERTS{{alertstate="firing"}}))'
)
"""Above 0 at each step in which an alert began to fire."""
