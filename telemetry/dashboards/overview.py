"""Platform overview: is anything wrong, and where?"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from telemetry.dashboards import log_queries, pipeline_queries, queries
from telemetry.dashboards.dashboard import Band, address
from telemetry.dashboards.dashboard import build as frame
from telemetry.dashboards.panel_ids import CONTAINER, COST, LOGS, OVERVIEW, PIPELINE, SERVICES
from telemetry.dashboards.panels import About, alert_list, lines, log_lines, opens, stat_panel
from telemetry.dashboards.style import BLUE, CALM, GREEN, GREY, ORANGE, RED, override, override_like
from telemetry.dashboards.tables import Column, key_table
from telemetry.dashboards.targets import Ask

ANY_IS_RED = ((0, GREEN), (1, RED))
STATE = ((0, "down", RED), (1, "running", GREEN))
HEALTH = ((0, "unhealthy", ORANGE), (1, "healthy", GREEN))
MEMORY_STEPS = ((0, GREEN), (0.8, ORANGE), (0.9, RED))
_STATE_COLOURS = {
    "running": GREEN,
    "created": BLUE,
    "paused": "purple",
    "exited": GREY,
    "restarting": ORANGE,
    "removing": "light-blue",
    "dead": RED,
}
FAILURE_STEPS = ((0, GREEN), (0.01, ORANGE), (0.05, RED))


def build() -> Dashboard:
    """The dashboard."""
    return frame(
        OVERVIEW,
        "Is anything wrong? The top row answers; below it what runs, what it does and costs.",
        [_is_anything_wrong(), _state(), _traffic(), _containers(), _details(), _errors()],
    )


def _is_anything_wrong() -> Band:
    critical = About(
        "overview.critical", "Critical alerts",
        "Critical alerts firing now. Anything but 0 wants a person at once.",
        steps=ANY_IS_RED, decimals=0,
    )  # fmt: skip
    warnings = About(
        "overview.warnings", "Warnings",
        "Warnings firing now: look at them today.",
        steps=((0, GREEN), (1, ORANGE)), decimals=0,
    )  # fmt: skip
    services = About(
        "overview.services_down", "Services down",
        "Services and engines that are meant to run and do not answer Prometheus' scrapes.",
        steps=ANY_IS_RED, decimals=0,
    )  # fmt: skip
    containers = About(
        "overview.containers_down", "Containers down",
        "Containers that are wanted but not running. One stopped on purpose is not counted.",
        steps=ANY_IS_RED, decimals=0,
    )  # fmt: skip
    errors = About(
        "overview.errors", "Requests failing",
        "Share of all requests answered with a 5xx status. Above 5 % for 5 minutes alerts.",
        "percentunit", FAILURE_STEPS, least=0, decimals=1,
    )  # fmt: skip
    loss = About(
        "overview.loss", "Telemetry lost",
        "Items refused, dropped or not delivered in the last 10 minutes, from apps to stores. "
        "Anything but 0 means that what you see is not everything.",
        steps=((0, GREEN), (1, ORANGE)), decimals=0,
    )  # fmt: skip
    panels = [
        stat_panel(critical, Ask(queries.alerts_firing("critical"), instant=True)),
        stat_panel(warnings, Ask(queries.alerts_firing("warning"), instant=True)),
        opens(stat_panel(services, Ask(queries.SERVICES_DOWN, instant=True)), "Services", SERVICES),
        stat_panel(containers, Ask(queries.CONTAINERS_DOWN, instant=True)),
        opens(stat_panel(errors, Ask(queries.ERROR_SHARE)), "Services", SERVICES),
        opens(stat_panel(loss, Ask(pipeline_queries.LOSS_COUNT)), "Pipeline health", PIPELINE),
    ]
    return Band(4, [(4, panel) for panel in panels])


def _state() -> Band:
    alerts = About(
        "overview.alerts", "Firing alerts",
        "Alerts that fire or are about to, by importance, from Grafana, Prometheus and Loki.",
    )  # fmt: skip
    states = About(
        "overview.states", "Containers by state",
        "Containers by the state Docker reports, over all hosts.", least=0, decimals=0,
    )  # fmt: skip
    provision = About(
        "overview.provision", "Provision success",
        "Share of containers provisioned without an error in the time range.",
        "percentunit", ((0, RED), (0.9, ORANGE), (0.99, GREEN)),
        least=0, most=1, decimals=1, empty="none yet",
    )  # fmt: skip
    budget = About(
        "overview.budget", "Highest budget use",
        "The user nearest to the day's budget. At 100 % the proxy refuses further calls.",
        "percentunit", MEMORY_STEPS, least=0, decimals=0,
    )  # fmt: skip
    cost = About(
        "overview.cost", "Cost today",
        "What all users' model calls have cost since midnight UTC, from the proxy's ledger.",
        "currencyUSD", CALM,
    )  # fmt: skip
    websockets = About(
        "overview.websockets", "WebSockets",
        "Web shells connected to the gateway now.", steps=CALM, decimals=0,
    )  # fmt: skip
    provisioned = stat_panel(
        provision, Ask(queries.PROVISION_SUCCESS, instant=True), background=False
    )
    used = stat_panel(budget, Ask(queries.QUOTA_HIGHEST_ALL, instant=True), background=False)
    spent = stat_panel(cost, Ask(queries.COST_TODAY), background=False)
    shells = stat_panel(websockets, Ask(queries.WEBSOCKETS), background=False)
    by_state = lines(
        states,
        Ask(queries.CONTAINERS_BY_STATE, "{{status}}"),
        stacked=True,
        overrides=[
            override(status, color={"mode": "fixed", "fixedColor": colour})
            for status, colour in _STATE_COLOURS.items()
        ],
    )
    return Band(
        8,
        [
            (8, alert_list(alerts)),
            (8, by_state),
            (4, [opens(spent, "Cost & usage", COST), opens(used, "Cost & usage", COST)]),
            (4, [provisioned, shells]),
        ],
    )


def _traffic() -> Band:
    requests = About(
        "overview.requests", "Requests",
        "Requests answered a second, by service.", "reqps", least=0,
    )  # fmt: skip
    dispatches = About(
        "overview.dispatches", "Dispatches",
        "Messages the kernel has finished with a second, by how they ended.", "ops", least=0,
    )  # fmt: skip
    failures = About(
        "overview.failures", "Errors",
        "5xx answers a second by service, dispatches that did not end well, and model calls "
        "that failed at the provider.", "ops", least=0,
    )  # fmt: skip
    return Band(
        8,
        [
            (8, lines(requests, Ask(queries.REQUESTS_BY_SERVICE, "{{job}}"))),
            (
                8,
                lines(
                    dispatches,
                    Ask(queries.DISPATCHES, "{{status}}"),
                    stacked=True,
                    overrides=[
                        override("ok", color={"mode": "fixed", "fixedColor": GREEN}),
                        override("error", color={"mode": "fixed", "fixedColor": RED}),
                        override("cancelled", color={"mode": "fixed", "fixedColor": GREY}),
                        override("rejected", color={"mode": "fixed", "fixedColor": ORANGE}),
                    ],
                ),
            ),
            (
                8,
                lines(
                    failures,
                    Ask(queries.FAILED_BY_SERVICE, "{{job}} 5xx"),
                    Ask(queries.DISPATCH_FAILURES, "dispatches not ok"),
                    Ask(queries.PROVIDER_FAILURES, "model calls failed"),
                ),
            ),
        ],
    )


def _containers() -> Band:
    about = About(
        "overview.containers", "Containers",
        "Every container the platform knows, worst memory first. A row opens the container; "
        "CPU is 100 % for one core, cost is since midnight UTC, counts are of the time range.",
    )  # fmt: skip
    columns = [
        Column("State", queries.TABLE["State"], mappings=STATE, steps=((0, RED), (1, GREEN))),
        Column(
            "Healthy", queries.TABLE["Healthy"], mappings=HEALTH, steps=((0, ORANGE), (1, GREEN))
        ),
        Column("CPU", queries.TABLE["CPU"], "percent"),
        Column("Memory", queries.TABLE["Memory"], "bytes"),
        Column("Of limit", queries.TABLE["Of limit"], "percentunit", MEMORY_STEPS, bar=True),
        Column("Restarts", queries.TABLE["Restarts"], steps=((0, GREEN), (1, ORANGE), (4, RED))),
        Column("OOM kills", queries.TABLE["OOM kills"], steps=ANY_IS_RED),
        Column("Received", queries.TABLE["Received"], "Bps"),
        Column("Sent", queries.TABLE["Sent"], "Bps"),
        Column("Cost today", queries.TABLE["Cost today"], "currencyUSD", ((0, BLUE), (10, ORANGE))),
    ]
    handle = "${__value.text:percentencode}"
    links = {
        "handle": (
            ("Open the container", address(CONTAINER, handle=handle)),
            ("Its logs", address(LOGS, handle=handle)),
        )
    }
    return Band(10, [(24, key_table(about, {"handle": "Container"}, columns, links, "Of limit"))])


def _details() -> Band:
    latency = About(
        "overview.latency", "Slow requests",
        "The time within which 95 % of requests were answered, by service.", "s", least=0,
    )  # fmt: skip
    provisioning = About(
        "overview.provisioning", "Provisioning",
        "Containers provisioned a minute by outcome, and how long provisioning and removing "
        "took (95 %, right axis).", "opm", least=0,
    )  # fmt: skip
    spending = About(
        "overview.spending", "Spending",
        "What model calls cost within each hour before, all users together.",
        "currencyUSD", CALM, least=0,
    )  # fmt: skip
    return Band(
        8,
        [
            (8, lines(latency, Ask(queries.P95_BY_SERVICE, "{{job}}"))),
            (
                8,
                lines(
                    provisioning,
                    Ask(queries.PROVISIONS, "{{outcome}}"),
                    Ask(queries.PROVISION_P95, "provision p95"),
                    Ask(queries.DESTROY_P95, "remove p95"),
                    overrides=[override_like("/p95$/", unit="s", custom__axisPlacement="right")],
                ),
            ),
            (8, lines(spending, Ask(queries.COST_PER_HOUR, "an hour", step="1m"))),
        ],
    )


def _errors() -> Band:
    about = About(
        "overview.logs", "Latest errors",
        "Error lines of every service and container, newest first.",
    )  # fmt: skip
    return Band(8, [(24, log_lines(about, Ask(log_queries.ALL_ERRORS, source="loki")))])
