"""PromQL of the panels about containers and their provisioning, from the catalog's names."""

from __future__ import annotations

from telemetry import catalog as c
from telemetry.dashboards.selections import HANDLE, LINES, peak
from telemetry.promql.functions import (
    RANGE,
    exact_increase,
    fresh,
    latest,
    or_zero,
    quantile,
    rate,
    rise,
    share,
    today,
    top,
    where,
)

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
_COST = c.PROXY_API_COST.prometheus
_COST_TODAY = c.PROXY_USER_COST_TODAY.prometheus
_FAILED = 'http_response_status_code=~"5.."'


def _biggest(metric: str, expression: str) -> str:
    """Keep ``expression`` for the containers whose ``metric`` was highest in the time range."""
    return top(LINES, f"({expression})", peak(metric, "handle", HANDLE), "handle")


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

STATE = f"min({latest(_UP, 'handle', HANDLE)}) or vector(-1)"
HEALTH = f"min({latest(_HEALTHY, 'handle', HANDLE)}) or vector(-1)"
CPU_NOW = or_zero(f"sum({latest(_CPU, 'handle', HANDLE)})")
MEMORY_HIGHEST = or_zero(
    f"max({latest(_MEMORY, 'handle', HANDLE)} / ({latest(_LIMIT, 'handle', HANDLE)} > 0))"
)
RESTARTS_COUNT = or_zero(f"sum({rise(_RESTARTS, RANGE, matchers=HANDLE)})")
OOM_COUNT = or_zero(f"sum({rise(_OOM_KILLS, RANGE, matchers=HANDLE)})")
CPU = _biggest(_CPU, latest(_CPU, "handle", HANDLE))
MEMORY = _biggest(_MEMORY, latest(_MEMORY, "handle", HANDLE))
# Without a limit Docker reports the machine's memory, a line that would flatten all others.
_MACHINE = "max(sum by (instance) (system_memory_usage_bytes))"
LIMIT = _biggest(
    _MEMORY,
    f"{latest(_LIMIT, 'handle', HANDLE)} > 0 "
    f"unless {latest(_LIMIT, 'handle', HANDLE)} >= on () group_left () (0.9 * {_MACHINE})",
)
RECEIVE = _biggest(_RECEIVE, rate(_RECEIVE, "handle", HANDLE))
TRANSMIT = _biggest(_RECEIVE, rate(_TRANSMIT, "handle", HANDLE))
RESTARTS = _biggest(_RESTARTS, rise(_RESTARTS, "10m", matchers=HANDLE))
OOM = _biggest(_OOM_KILLS, rise(_OOM_KILLS, "10m", matchers=HANDLE))
UP = _biggest(_CPU, latest(_UP, "handle", HANDLE)) + (f" or {latest(_UP, 'handle', HANDLE)} == 0")
HEALTHY = _biggest(_CPU, latest(_HEALTHY, "handle", HANDLE)) + (
    f" or {latest(_HEALTHY, 'handle', HANDLE)} == 0"
)
# "All" means all containers, without processes outside of containers.
_INSIDE = f'{HANDLE}, handle!=""'
REQUESTS = top(
    LINES,
    f"({rate(_REQUESTS, 'job, handle', _INSIDE)})",
    f"sum by (job, handle) (increase({_REQUESTS}{where(_INSIDE)}[{RANGE}] @ end()))",
    "job, handle",
)
FAILED = or_zero(rate(_REQUESTS, "", f"{_INSIDE}, {_FAILED}"))
# The handle of a provisioned container is also the name of its proxy user.
_USER_IS_HANDLE = 'user_id=~"$handle"'
_OWN = (
    f"and on (user_id) label_replace("
    f"group by (handle) (last_over_time({_RESTARTS}{where(HANDLE)}[{RANGE}] @ end())), "
    '"user_id", "$1", "handle", "(.*)")'
)
COST_TODAY = or_zero(f"sum({today(_COST_TODAY, 'user_id', _USER_IS_HANDLE)} {_OWN})")
COST = top(
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
