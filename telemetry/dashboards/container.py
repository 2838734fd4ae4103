"""Container detail: one container, or several side by side."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from telemetry.dashboards import log_queries, queries
from telemetry.dashboards.dashboard import Band, handle, link
from telemetry.dashboards.dashboard import build as frame
from telemetry.dashboards.overview import ANY_IS_RED, HEALTH, MEMORY_STEPS, STATE
from telemetry.dashboards.panel_ids import CONTAINER, COST, LOGS, OVERVIEW
from telemetry.dashboards.panels import About, lines, log_lines, stat_panel, timeline
from telemetry.dashboards.style import CALM, GREEN, GREY, ORANGE, RED, override, override_like
from telemetry.dashboards.targets import Ask

_SAMPLED = "15s"  # how often the platform looks
_MANY = " With more than 20 selected, the 20 that were highest in the time range."


def build() -> Dashboard:
    """The dashboard."""
    return frame(
        CONTAINER,
        "What a container does, uses, costs and says. Choose one or several above; "
        "marks show when one was started, stopped or ran out of memory.",
        [_now(), _resources(), _network(), _life(), _work(), _logs()],
        [handle()],
        links=[
            link("Logs", LOGS, "Search this container's logs in the same time range"),
            link("Overview", OVERVIEW, "All containers"),
            link("Cost & usage", COST, "Who spends what"),
        ],
    )


def _now() -> Band:
    gone = (-1, "gone", GREY)
    state = About(
        "container.state", "State",
        "Runs as wanted, or is wanted and does not run; the worst of the selected. "
        "Gone: the platform has no such container, or it was stopped on purpose.",
        steps=((-1, GREY), (0, RED), (1, GREEN)), mappings=(gone, *STATE), decimals=0,
    )  # fmt: skip
    health = About(
        "container.health", "Health check",
        "What the container's own health check says; the worst of the selected.",
        steps=((-1, GREY), (0, ORANGE), (1, GREEN)),
        mappings=((-1, "none", GREY), *HEALTH), decimals=0,
    )  # fmt: skip
    cpu = About(
        "container.cpu_now", "CPU",
        "CPU use now, 100 % is one core; all selected together.", "percent", CALM,
        least=0, decimals=1,
    )  # fmt: skip
    memory = About(
        "container.memory_share", "Memory used",
        "Working set against the limit; the highest of the selected. Above 90 % for 5 minutes "
        "alerts, at 100 % the kernel kills.",
        "percentunit", MEMORY_STEPS, least=0, most=1, decimals=0,
    )  # fmt: skip
    restarts = About(
        "container.restarts_count", "Restarts",
        "Starts that nobody asked for, in the time range.",
        steps=((0, GREEN), (1, ORANGE), (4, RED)), decimals=0,
    )  # fmt: skip
    oom = About(
        "container.oom_count", "OOM kills",
        "Processes that the kernel killed because memory ran out, in the time range.",
        steps=ANY_IS_RED, decimals=0,
    )  # fmt: skip
    cost = About(
        "container.cost_today", "Cost today",
        "What the container's own proxy key has cost since midnight UTC.", "currencyUSD", CALM,
    )  # fmt: skip
    errors = About(
        "container.error_lines", "Error lines",
        "Log lines of level error or worse in the time range.",
        steps=((0, GREEN), (1, ORANGE)),
    )  # fmt: skip
    return Band(
        4,
        [
            (3, stat_panel(state, Ask(queries.CONTAINER_STATE, instant=True))),
            (3, stat_panel(health, Ask(queries.CONTAINER_HEALTH, instant=True))),
            (3, stat_panel(cpu, Ask(queries.CONTAINER_CPU_NOW), background=False)),
            (3, stat_panel(memory, Ask(queries.CONTAINER_MEMORY_HIGHEST))),
            (3, stat_panel(restarts, Ask(queries.CONTAINER_RESTARTS_COUNT, instant=True))),
            (3, stat_panel(oom, Ask(queries.CONTAINER_OOM_COUNT, instant=True))),
            (3, stat_panel(cost, Ask(queries.CONTAINER_COST_TODAY), background=False)),
            (
                3,
                stat_panel(
                    errors, Ask(log_queries.CONTAINER_ERROR_COUNT, instant=True, source="loki")
                ),
            ),
        ],
    )


def _resources() -> Band:
    cpu = About(
        "container.cpu", "CPU", "CPU use, 100 % is one core." + _MANY, "percent", least=0,
    )  # fmt: skip
    memory = About(
        "container.memory", "Memory against limit",
        "Working set (what counts towards the limit and can't be given back), and the limit "
        "as a dashed line." + _MANY, "bytes", least=0,
    )  # fmt: skip
    return Band(
        8,
        [
            (12, lines(cpu, Ask(queries.CONTAINER_CPU, "{{handle}}", step=_SAMPLED))),
            (
                12,
                lines(
                    memory,
                    Ask(queries.CONTAINER_MEMORY, "{{handle}}", step=_SAMPLED),
                    Ask(queries.CONTAINER_LIMIT, "{{handle}} limit", step=_SAMPLED),
                    overrides=[
                        override_like(
                            "/ limit$/",
                            color={"mode": "fixed", "fixedColor": RED},
                            custom__lineStyle={"fill": "dash", "dash": [10, 10]},
                            custom__fillOpacity=0,
                        )
                    ],
                ),
            ),
        ],
    )


def _network() -> Band:
    network = About(
        "container.network", "Network",
        "Bytes a second received (up) and sent (down)." + _MANY, "Bps",
    )  # fmt: skip
    restarts = About(
        "container.restarts", "Restarts",
        "Starts that nobody asked for, within the 10 minutes before. More than 3 alerts."
        + _MANY, least=0, decimals=0, steps=((0, GREEN), (3, ORANGE)),
    )  # fmt: skip
    oom = About(
        "container.oom", "OOM kills",
        "Processes killed because memory ran out, within the 10 minutes before. Any alerts."
        + _MANY, least=0, decimals=0,
    )  # fmt: skip
    return Band(
        7,
        [
            (
                12,
                lines(
                    network,
                    Ask(queries.CONTAINER_RECEIVE, "{{handle}} received"),
                    Ask(queries.CONTAINER_TRANSMIT, "{{handle}} sent"),
                    overrides=[override_like("/ sent$/", custom__transform="negative-Y")],
                ),
            ),
            (
                6,
                lines(
                    restarts,
                    Ask(queries.CONTAINER_RESTARTS, "{{handle}}", step=_SAMPLED),
                    limits=True,
                ),
            ),
            (6, lines(oom, Ask(queries.CONTAINER_OOM, "{{handle}}", step=_SAMPLED))),
        ],
    )


def _life() -> Band:
    up = About(
        "container.up", "Running",
        "Green where the container runs as wanted, red where it is wanted and does not run, "
        "nothing where it does not exist or was stopped on purpose.",
        steps=((0, RED), (1, GREEN)), mappings=STATE, decimals=0,
    )  # fmt: skip
    healthy = About(
        "container.healthy", "Health check",
        "Orange where the container's own health check fails. Containers without one are "
        "not listed.",
        steps=((0, ORANGE), (1, GREEN)), mappings=HEALTH, decimals=0, empty="no health checks",
    )  # fmt: skip
    return Band(
        6,
        [
            (12, timeline(up, Ask(queries.CONTAINER_UP, "{{handle}}"))),
            (12, timeline(healthy, Ask(queries.CONTAINER_HEALTHY, "{{handle}}"))),
        ],
    )


def _work() -> Band:
    requests = About(
        "container.requests", "Requests",
        "Requests a second answered by the instrumented services inside, and those answered "
        "with a 5xx status." + _MANY, "reqps", least=0,
    )  # fmt: skip
    dispatch = About(
        "container.dispatch", "Dispatch duration",
        "From a message's acceptance to its answer's end, where a gateway runs inside; with "
        "all selected, every gateway.", "s", least=0, empty="no dispatches",
    )  # fmt: skip
    cost = About(
        "container.cost", "Cost an hour",
        "What the container's own proxy key cost within each hour before." + _MANY,
        "currencyUSD", least=0, empty="nothing spent",
    )  # fmt: skip
    return Band(
        8,
        [
            (
                8,
                lines(
                    requests,
                    Ask(queries.CONTAINER_REQUESTS, "{{handle}} {{job}}"),
                    Ask(queries.CONTAINER_FAILED, "5xx"),
                    overrides=[override("5xx", color={"mode": "fixed", "fixedColor": RED})],
                ),
            ),
            (
                8,
                lines(
                    dispatch,
                    *(
                        Ask(queries.dispatch_quantile(q, queries.HANDLE), f"p{100 * q:g}")
                        for q in (0.5, 0.95, 0.99)
                    ),
                ),
            ),
            (8, lines(cost, Ask(queries.CONTAINER_COST, "{{user_id}}", step="1m"))),
        ],
    )


def _logs() -> Band:
    about = About(
        "container.logs", "Latest log lines",
        "What the container said, newest first; click a line for its fields and its trace.",
    )  # fmt: skip
    return Band(12, [(24, log_lines(about, Ask(log_queries.CONTAINER_LINES, source="loki")))])
