"""Platform overview: is anything wrong, and where?"""

from __future__ import annotations

from telemetry.dashboards import (
    container_queries,
    cost_queries,
    log_queries,
    pipeline_queries,
    service_queries,
)
from telemetry.dashboards.dashboard import Band, Dashboard, address
from telemetry.dashboards.panel_ids import CONTAINER, COST, LOGS, OVERVIEW, PIPELINE, SERVICES
from telemetry.dashboards.panels import add_link, alert_list, lines, log_lines, panel, stat
from telemetry.dashboards.style import (
    ANY_IS_ORANGE,
    ANY_IS_RED,
    BLUE,
    FAILURES,
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
from telemetry.dashboards.tables import Column, Key, key_table
from telemetry.dashboards.targets import Target

_STATE_COLOURS = {
    "running": GREEN,
    "created": BLUE,
    "paused": "purple",
    "exited": GREY,
    "restarting": ORANGE,
    "removing": "light-blue",
    "dead": RED,
}
_ENDING_COLOURS = {"ok": GREEN, "error": RED, "cancelled": GREY, "rejected": ORANGE}


def build() -> Dashboard:
    """Declare the dashboard."""
    return Dashboard(
        OVERVIEW,
        "Platform overview",
        "Is anything wrong? See the first row. Below it: what runs, what it does, what it costs.",
        [_summary(), _state(), _traffic(), _containers(), _details(), _errors()],
    )


def _summary() -> Band:
    critical = panel(
        "overview.critical",
        "Critical alerts",
        "Critical alerts that fire now. Anything but 0 needs a person at once.",
        stat(
            Target(service_queries.alerts_firing("critical"), instant=True),
            scale=Scale(steps=ANY_IS_RED, decimals=0),
        ),
    )
    warnings = panel(
        "overview.warnings",
        "Warnings",
        "Warnings that fire now: look at them today.",
        stat(
            Target(service_queries.alerts_firing("warning"), instant=True),
            scale=Scale(steps=ANY_IS_ORANGE, decimals=0),
        ),
    )
    services = panel(
        "overview.services_down",
        "Services down",
        "Services and components that should run but don't answer Prometheus' scrapes.",
        stat(
            Target(service_queries.SERVICES_DOWN, instant=True),
            scale=Scale(steps=ANY_IS_RED, decimals=0),
        ),
    )
    containers = panel(
        "overview.containers_down",
        "Containers down",
        "Containers that should run but don't. A container stopped on purpose is not counted.",
        stat(
            Target(container_queries.CONTAINERS_DOWN, instant=True),
            scale=Scale(steps=ANY_IS_RED, decimals=0),
        ),
    )
    errors = panel(
        "overview.errors",
        "Requests failing",
        "Share of all requests answered with a 5xx status. An alert fires above 5 % for 5 minutes.",
        stat(
            Target(service_queries.ERROR_SHARE),
            scale=Scale("percentunit", FAILURES, least=0, decimals=1),
        ),
    )
    loss = panel(
        "overview.loss",
        "Telemetry lost",
        "Items refused, dropped or not delivered in the last 10 minutes, from apps to stores. "
        "Anything but 0 means that the dashboards don't show everything.",
        stat(Target(pipeline_queries.LOSS_COUNT), scale=Scale(steps=ANY_IS_ORANGE, decimals=0)),
    )
    add_link(services, "Services", SERVICES)
    add_link(errors, "Services", SERVICES)
    add_link(loss, "Pipeline health", PIPELINE)
    return Band(4, [critical, warnings, services, containers, errors, loss])


def _state() -> Band:
    alerts = panel(
        "overview.alerts",
        "Firing alerts",
        "Alerts that fire or are pending, by severity, from Grafana, Prometheus and Loki.",
        alert_list(),
    )
    states = panel(
        "overview.states",
        "Containers by state",
        "Containers by Docker's state, on all hosts.",
        lines(
            Target(container_queries.CONTAINERS_BY_STATE, "{{status}}"),
            scale=Scale(least=0, decimals=0),
            stacked=True,
            overrides=[override(state, color=fixed(c)) for state, c in _STATE_COLOURS.items()],
        ),
    )
    provision = panel(
        "overview.provision",
        "Provision success",
        "Share of containers provisioned without an error in the time range.",
        stat(
            Target(container_queries.PROVISION_SUCCESS, instant=True),
            scale=Scale(
                "percentunit",
                ((0, RED), (0.9, ORANGE), (0.99, GREEN)),
                least=0,
                most=1,
                decimals=1,
                empty="none yet",
            ),
            background=False,
        ),
    )
    budget = panel(
        "overview.budget",
        "Highest budget use",
        "Share of the day's budget spent by the user nearest to the limit. At 100 % the proxy "
        "refuses further calls.",
        stat(
            Target(cost_queries.QUOTA_HIGHEST_ALL, instant=True),
            scale=Scale("percentunit", NEARLY_FULL, least=0, decimals=0),
            background=False,
        ),
    )
    cost = panel(
        "overview.cost",
        "Cost today",
        "Cost of all users' model calls since midnight UTC, from the proxy's ledger.",
        stat(
            Target(cost_queries.COST_TODAY),
            scale=Scale("currencyUSD", NEUTRAL),
            background=False,
        ),
    )
    websockets = panel(
        "overview.websockets",
        "WebSockets",
        "Web shells connected to the gateway now.",
        stat(
            Target(service_queries.WEBSOCKETS),
            scale=Scale(steps=NEUTRAL, decimals=0),
            background=False,
        ),
    )
    add_link(cost, "Cost & usage", COST)
    add_link(budget, "Cost & usage", COST)
    return Band(8, [alerts, states, [cost, budget], [provision, websockets]], widths=[8, 8, 4, 4])


def _traffic() -> Band:
    requests = panel(
        "overview.requests",
        "Requests",
        "Requests answered per second, by service.",
        lines(
            Target(service_queries.REQUESTS_BY_SERVICE, "{{job}}"), scale=Scale("reqps", least=0)
        ),
    )
    dispatches = panel(
        "overview.dispatches",
        "Dispatches",
        "Dispatches finished per second, by status.",
        lines(
            Target(service_queries.DISPATCHES, "{{status}}"),
            scale=Scale("ops", least=0),
            stacked=True,
            overrides=[override(ending, color=fixed(c)) for ending, c in _ENDING_COLOURS.items()],
        ),
    )
    failures = panel(
        "overview.failures",
        "Errors",
        "5xx answers per second by service, dispatches that did not succeed, and model calls "
        "that failed at the provider.",
        lines(
            Target(service_queries.FAILED_BY_SERVICE, "{{job}} 5xx"),
            Target(service_queries.DISPATCH_FAILURES, "dispatches not ok"),
            Target(cost_queries.PROVIDER_FAILURES, "model calls failed"),
            scale=Scale("ops", least=0),
        ),
    )
    return Band(8, [requests, dispatches, failures])


def _containers() -> Band:
    up, healthy = ((0, RED), (1, GREEN)), ((0, ORANGE), (1, GREEN))
    costly = ((0, BLUE), (10, ORANGE))
    query = container_queries.TABLE
    columns = [
        Column("State", query["State"], steps=up, texts=STATE),
        Column("Healthy", query["Healthy"], steps=healthy, texts=HEALTH),
        Column("CPU", query["CPU"], "percent"),
        Column("Memory", query["Memory"], "bytes"),
        Column("Of limit", query["Of limit"], "percentunit", NEARLY_FULL, bar=True),
        Column("Restarts", query["Restarts"], steps=RESTARTS),
        Column("OOM kills", query["OOM kills"], steps=ANY_IS_RED),
        Column("Received", query["Received"], "Bps"),
        Column("Sent", query["Sent"], "Bps"),
        Column("Cost today", query["Cost today"], "currencyUSD", costly),
    ]
    chosen = "${__value.text:percentencode}"
    links = (
        ("Open the container", address(CONTAINER, handle=chosen)),
        ("Its logs", address(LOGS, handle=chosen)),
    )
    containers = panel(
        "overview.containers",
        "Containers",
        "Every container of the platform, highest memory use first; its name opens it. CPU is "
        "100 % for one core, cost is since midnight UTC, counts are for the time range.",
        key_table([Key("handle", "Container", links)], columns, sort="Of limit"),
    )
    return Band(10, [containers])


def _details() -> Band:
    latency = panel(
        "overview.latency",
        "Slow requests",
        "95th percentile of the request duration, by service.",
        lines(Target(service_queries.P95_BY_SERVICE, "{{job}}"), scale=Scale("s", least=0)),
    )
    provisioning = panel(
        "overview.provisioning",
        "Provisioning",
        "Containers provisioned per minute by outcome, and the 95th percentile of the time to "
        "provision and to remove one (right axis).",
        lines(
            Target(container_queries.PROVISIONS, "{{outcome}}"),
            Target(container_queries.PROVISION_P95, "provision p95"),
            Target(container_queries.DESTROY_P95, "remove p95"),
            scale=Scale("opm", least=0),
            overrides=[override_like("/p95$/", unit="s", custom__axisPlacement="right")],
        ),
    )
    spending = panel(
        "overview.spending",
        "Spending",
        "Cost of all users' model calls within the previous hour.",
        lines(
            Target(cost_queries.COST_PER_HOUR, "per hour", step="1m"),
            scale=Scale("currencyUSD", NEUTRAL, least=0),
        ),
    )
    return Band(8, [latency, provisioning, spending])


def _errors() -> Band:
    latest = panel(
        "overview.logs",
        "Latest errors",
        "Error lines of all services and containers, newest first.",
        log_lines(Target(log_queries.ALL_ERRORS, source="loki")),
    )
    return Band(8, [latest])
