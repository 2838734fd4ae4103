"""Logs: search across services and containers."""

from __future__ import annotations

from telemetry.dashboards import log_queries
from telemetry.dashboards.dashboard import (
    Band,
    Dashboard,
    address,
    choice,
    link,
    log_handle,
    log_service,
    text,
)
from telemetry.dashboards.panel_ids import CONTAINER, LOGS
from telemetry.dashboards.panels import bar_gauge, bars, lines, log_lines, panel, stat
from telemetry.dashboards.style import (
    ANY_IS_ORANGE,
    BLUE,
    GREEN,
    NEUTRAL,
    ORANGE,
    RED,
    Scale,
    fixed,
    override,
)
from telemetry.dashboards.targets import Target

_LEVEL_COLOURS = {
    "fatal": "dark-red",
    "error": RED,
    "warn": ORANGE,
    "info": GREEN,
    "debug": BLUE,
    "trace": "light-blue",
}


def build() -> Dashboard:
    """Declare the dashboard."""
    words = [text("search", "Search"), text("trace_id", "Trace id")]
    return Dashboard(
        LOGS,
        "Logs",
        "Search all logs: select services, containers and levels; type or paste words (upper or "
        "lower case) or a trace id.",
        [_summary(), _lines()],
        [log_service(), log_handle(), choice("level", "Level", tuple(_LEVEL_COLOURS)), *words],
        [link("Container detail", CONTAINER, "The selected container's numbers")],
        events=False,
    )


def _summary() -> Band:
    source = "{{service_name}} {{handle}}"
    count = panel(
        "logs.line_count",
        "Lines",
        "Lines found in the time range.",
        stat(
            Target(log_queries.LINE_COUNT, instant=True, source="loki"), scale=Scale(steps=NEUTRAL)
        ),
    )
    error_count = panel(
        "logs.error_count",
        "Error lines",
        "Lines of level error or worse among those searched, in the time range.",
        stat(
            Target(log_queries.ERROR_COUNT, instant=True, source="loki"),
            scale=Scale(steps=ANY_IS_ORANGE),
        ),
    )
    volume = panel(
        "logs.volume",
        "Lines by level",
        "Lines found, by level.",
        bars(
            Target(log_queries.VOLUME, "{{level}}", source="loki"),
            scale=Scale(least=0, decimals=0),
            overrides=[override(level, color=fixed(c)) for level, c in _LEVEL_COLOURS.items()],
        ),
    )
    errors = panel(
        "logs.errors",
        "Errors by service",
        "Error lines within the previous 5 minutes, by service and container. An alert fires at "
        "more than 20, if that is also five times the service's own rate of the last day.",
        lines(
            Target(log_queries.ERRORS, source, source="loki"),
            scale=Scale(steps=((0, GREEN), (20, ORANGE)), least=0, decimals=0, empty="no errors"),
            limits=True,
        ),
    )
    chosen = address(
        LOGS,
        service="${__data.fields.service_name:percentencode}",
        handle="${__data.fields.handle:percentencode}",
    )
    noisiest = panel(
        "logs.noisiest",
        "Top log sources",
        "Lines found in the time range, by service and container. Click one to search it.",
        bar_gauge(
            Target(log_queries.NOISIEST, source, instant=True, source="loki"),
            scale=Scale(steps=NEUTRAL, least=0),
            links=[("Only this service and container", chosen)],
        ),
    )
    return Band(7, [count, error_count, volume, errors, noisiest], widths=[3, 3, 6, 6, 6])


def _lines() -> Band:
    found = panel(
        "logs.lines",
        "Lines",
        "Newest first. Click a line for its fields; its trace id and container are links.",
        log_lines(Target(log_queries.LINES, source="loki")),
    )
    return Band(20, [found])
