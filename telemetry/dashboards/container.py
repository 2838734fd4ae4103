"""Container detail: one container, or several side by side."""

from __future__ import annotations

from functools import partial

from telemetry.dashboards import container_queries as queries
from telemetry.dashboards import log_queries, service_queries
from telemetry.dashboards.dashboard import Band, Dashboard, handle, link
from telemetry.dashboards.panel_ids import CONTAINER, COST, LOGS, OVERVIEW
from telemetry.dashboards.panels import lines, log_lines, panel, stat, timeline
from telemetry.dashboards.selections import HANDLE
from telemetry.dashboards.style import (
    ANY_IS_ORANGE,
    ANY_IS_RED,
    GREEN,
    GREY,
    HEALTH,
    NEARLY_FULL,
    NEUTRAL,
    ORANGE,
    RED,
    RESTARTS,
    STATE,
    Scale,
    fixed,
    override,
    override_like,
)
from telemetry.dashboards.targets import Target, quantiles

_SAMPLED = "15s"  # the platform's sampling interval
_MANY = " With more than 20 selected, the 20 highest in the time range."


def build() -> Dashboard:
    """Declare the dashboard."""
    return Dashboard(
        CONTAINER,
        "Container detail",
        "What a container does, uses, costs and logs. Select one or several above. "
        "Marks show when a container was started, stopped or ran out of memory.",
        [_now(), _resources(), _network(), _life(), _work(), _logs()],
        [handle()],
        [
            link("Logs", LOGS, "Search this container's logs in the same time range"),
            link("Overview", OVERVIEW, "All containers"),
            link("Cost & usage", COST, "Cost by user and model"),
        ],
    )


def _now() -> Band:
    state = panel(
        "container.state",
        "State",
        "Running, or down although it should run; the worst of the selected. Gone: the platform "
        "has no such container, or it was stopped on purpose.",
        stat(
            Target(queries.STATE, instant=True),
            scale=Scale(
                steps=((-1, GREY), (0, RED), (1, GREEN)),
                texts=((-1, "gone", GREY), *STATE),
                decimals=0,
            ),
        ),
    )
    health = panel(
        "container.health",
        "Health check",
        "Result of the container's own health check; the worst of the selected.",
        stat(
            Target(queries.HEALTH, instant=True),
            scale=Scale(
                steps=((-1, GREY), (0, ORANGE), (1, GREEN)),
                texts=((-1, "none", GREY), *HEALTH),
                decimals=0,
            ),
        ),
    )
    cpu = panel(
        "container.cpu_now",
        "CPU",
        "CPU use now, all selected together; 100 % is one core.",
        stat(
            Target(queries.CPU_NOW),
            scale=Scale("percent", NEUTRAL, least=0, decimals=1),
            background=False,
        ),
    )
    memory = panel(
        "container.memory_share",
        "Memory used",
        "Working set as a share of the limit; the highest of the selected. An alert fires above "
        "90 % for 5 minutes; at 100 % the kernel kills it.",
        stat(
            Target(queries.MEMORY_HIGHEST),
            scale=Scale("percentunit", NEARLY_FULL, least=0, most=1, decimals=0),
        ),
    )
    restarts = panel(
        "container.restarts_count",
        "Restarts",
        "Restarts in the time range that no user requested.",
        stat(
            Target(queries.RESTARTS_COUNT, instant=True),
            scale=Scale(steps=RESTARTS, decimals=0),
        ),
    )
    oom = panel(
        "container.oom_count",
        "OOM kills",
        "Processes that the kernel killed in the time range because memory ran out.",
        stat(
            Target(queries.OOM_COUNT, instant=True),
            scale=Scale(steps=ANY_IS_RED, decimals=0),
        ),
    )
    cost = panel(
        "container.cost_today",
        "Cost today",
        "Cost of the container's own proxy key since midnight UTC.",
        stat(
            Target(queries.COST_TODAY),
            scale=Scale("currencyUSD", NEUTRAL),
            background=False,
        ),
    )
    errors = panel(
        "container.error_lines",
        "Error lines",
        "Log lines of level error or worse in the time range.",
        stat(
            Target(log_queries.CONTAINER_ERROR_COUNT, instant=True, source="loki"),
            scale=Scale(steps=ANY_IS_ORANGE),
        ),
    )
    return Band(4, [state, health, cpu, memory, restarts, oom, cost, errors])


def _resources() -> Band:
    cpu = panel(
        "container.cpu",
        "CPU",
        "CPU use; 100 % is one core." + _MANY,
        lines(
            Target(queries.CPU, "{{handle}}", step=_SAMPLED),
            scale=Scale("percent", least=0),
        ),
    )
    memory = panel(
        "container.memory",
        "Memory against limit",
        "Working set (memory that counts towards the limit and can't be reclaimed), and the "
        "limit as a dashed line." + _MANY,
        lines(
            Target(queries.MEMORY, "{{handle}}", step=_SAMPLED),
            Target(queries.LIMIT, "{{handle}} limit", step=_SAMPLED),
            scale=Scale("bytes", least=0),
            overrides=[
                override_like(
                    "/ limit$/",
                    color=fixed(RED),
                    custom__lineStyle={"fill": "dash", "dash": [10, 10]},
                    custom__fillOpacity=0,
                )
            ],
        ),
    )
    return Band(8, [cpu, memory])


def _network() -> Band:
    network = panel(
        "container.network",
        "Network",
        "Bytes per second received (up) and sent (down)." + _MANY,
        lines(
            Target(queries.RECEIVE, "{{handle}} received"),
            Target(queries.TRANSMIT, "{{handle}} sent"),
            scale=Scale("Bps"),
            overrides=[override_like("/ sent$/", custom__transform="negative-Y")],
        ),
    )
    restarts = panel(
        "container.restarts",
        "Restarts",
        "Restarts within the previous 10 minutes that no user requested. An alert fires at more "
        "than 3." + _MANY,
        lines(
            Target(queries.RESTARTS, "{{handle}}", step=_SAMPLED),
            scale=Scale(steps=((0, GREEN), (3, ORANGE)), least=0, decimals=0),
            limits=True,
        ),
    )
    oom = panel(
        "container.oom",
        "OOM kills",
        "Processes killed within the previous 10 minutes because memory ran out. Any fires an "
        "alert." + _MANY,
        lines(
            Target(queries.OOM, "{{handle}}", step=_SAMPLED),
            scale=Scale(least=0, decimals=0),
        ),
    )
    return Band(7, [network, restarts, oom], widths=[12, 6, 6])


def _life() -> Band:
    up = panel(
        "container.up",
        "Running",
        "Green: the container runs. Red: it should run but doesn't. Empty: it does not exist, or "
        "was stopped on purpose.",
        timeline(
            Target(queries.UP, "{{handle}}"),
            scale=Scale(steps=((0, RED), (1, GREEN)), texts=STATE, decimals=0),
        ),
    )
    healthy = panel(
        "container.healthy",
        "Health check",
        "Orange: the container's own health check fails. Containers without a health check are "
        "not listed.",
        timeline(
            Target(queries.HEALTHY, "{{handle}}"),
            scale=Scale(
                steps=((0, ORANGE), (1, GREEN)), texts=HEALTH, decimals=0, empty="no health checks"
            ),
        ),
    )
    return Band(6, [up, healthy])


def _work() -> Band:
    requests = panel(
        "container.requests",
        "Requests",
        "Requests per second answered by the instrumented services inside, and those answered "
        "with a 5xx status." + _MANY,
        lines(
            Target(queries.REQUESTS, "{{handle}} {{job}}"),
            Target(queries.FAILED, "5xx"),
            scale=Scale("reqps", least=0),
            overrides=[override("5xx", color=fixed(RED))],
        ),
    )
    dispatch = panel(
        "container.dispatch",
        "Dispatch duration",
        "Time from accepting a message to the end of its answer, if a gateway runs inside; with "
        "all selected, of every gateway.",
        lines(
            *quantiles(partial(service_queries.dispatch_quantile, matchers=HANDLE)),
            scale=Scale("s", least=0, empty="no dispatches"),
        ),
    )
    cost = panel(
        "container.cost",
        "Cost per hour",
        "Cost of the container's own proxy key within the previous hour." + _MANY,
        lines(
            Target(queries.COST, "{{user_id}}", step="1m"),
            scale=Scale("currencyUSD", least=0, empty="nothing spent"),
        ),
    )
    return Band(8, [requests, dispatch, cost])


def _logs() -> Band:
    latest = panel(
        "container.logs",
        "Latest log lines",
        "Log lines of the container, newest first. Click a line for its fields and its trace.",
        log_lines(Target(log_queries.CONTAINER_LINES, source="loki")),
    )
    return Band(12, [latest])
