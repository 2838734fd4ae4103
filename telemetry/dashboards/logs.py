"""Logs: search across services and containers."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from telemetry.dashboards import log_queries
from telemetry.dashboards.dashboard import (
    Band,
    address,
    choice,
    link,
    log_handle,
    log_service,
    text,
)
from telemetry.dashboards.dashboard import build as frame
from telemetry.dashboards.panel_ids import CONTAINER, LOGS
from telemetry.dashboards.panels import About, bar_gauge, lines, log_lines, stat_panel
from telemetry.dashboards.style import BLUE, CALM, GREEN, ORANGE, RED, override
from telemetry.dashboards.targets import Ask

_COLOURS = {
    "fatal": "dark-red",
    "error": RED,
    "warn": ORANGE,
    "info": GREEN,
    "debug": BLUE,
    "trace": "light-blue",
}


def build() -> Dashboard:
    """The dashboard."""
    return frame(
        LOGS,
        "Search all logs: choose services, containers and levels, type or paste words (upper and "
        "lower case alike), or a trace id.",
        [_summary(), _lines()],
        [
            log_service(),
            log_handle(),
            choice("level", "Level", tuple(_COLOURS)),
            text("search", "Search"),
            text("trace_id", "Trace id"),
        ],
        links=[link("Container detail", CONTAINER, "The selected container's numbers")],
        events=False,
    )


def _summary() -> Band:
    count = About(
        "logs.line_count", "Lines",
        "Lines found in the time range.", steps=CALM,
    )  # fmt: skip
    error_count = About(
        "logs.error_count", "Error lines",
        "Lines of level error or worse among those searched, in the time range.",
        steps=((0, GREEN), (1, ORANGE)),
    )  # fmt: skip
    volume = About(
        "logs.volume", "Lines by level",
        "Lines found, by level.", least=0, decimals=0,
    )  # fmt: skip
    errors = About(
        "logs.errors", "Errors by service",
        "Error lines within the 5 minutes before, by service and container. More than 20, and "
        "five times the service's own rate of the last day, alerts.",
        steps=((0, GREEN), (20, ORANGE)), least=0, decimals=0, empty="no errors",
    )  # fmt: skip
    noisiest = About(
        "logs.noisiest", "Who logs most",
        "Lines found in the time range, by service and container; choose one to search it.",
        steps=CALM, least=0,
    )  # fmt: skip
    return Band(
        7,
        [
            (3, stat_panel(count, Ask(log_queries.LINE_COUNT, instant=True, source="loki"))),
            (3, stat_panel(error_count, Ask(log_queries.ERROR_COUNT, instant=True, source="loki"))),
            (
                6,
                lines(
                    volume,
                    Ask(log_queries.VOLUME, "{{level}}", source="loki"),
                    stacked=True,
                    bars=True,
                    overrides=[
                        override(level, color={"mode": "fixed", "fixedColor": colour})
                        for level, colour in _COLOURS.items()
                    ],
                ),
            ),
            (
                6,
                lines(
                    errors,
                    Ask(log_queries.ERRORS, "{{service_name}} {{handle}}", source="loki"),
                    limits=True,
                ),
            ),
            (
                6,
                bar_gauge(
                    noisiest,
                    Ask(
                        log_queries.NOISIEST,
                        "{{service_name}} {{handle}}",
                        instant=True,
                        source="loki",
                    ),
                    links=[
                        (
                            "Only this service and container",
                            address(
                                LOGS,
                                service="${__data.fields.service_name:percentencode}",
                                handle="${__data.fields.handle:percentencode}",
                            ),
                        )
                    ],
                ),
            ),
        ],
    )


def _lines() -> Band:
    about = About(
        "logs.lines", "Lines",
        "Newest first. Click a line for its fields: trace id and container lead on from there.",
    )  # fmt: skip
    return Band(20, [(24, log_lines(about, Ask(log_queries.LINES, source="loki")))])
