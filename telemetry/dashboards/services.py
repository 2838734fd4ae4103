"""Services: rate, errors and duration of any instrumented app, and the state of its processes."""

from __future__ import annotations

from telemetry.dashboards import service_queries as queries
from telemetry.dashboards.dashboard import Band, Dashboard, address, handle, link, service
from telemetry.dashboards.panel_ids import LOGS, OVERVIEW, SERVICES
from telemetry.dashboards.panels import heat, lines, panel, stat, timeline
from telemetry.dashboards.style import (
    ANSWERING,
    ANY_IS_RED,
    FAILURES,
    GREEN,
    NEUTRAL,
    ORANGE,
    RED,
    Scale,
    override,
)
from telemetry.dashboards.tables import Column, Key, key_table
from telemetry.dashboards.targets import Target, quantiles

_WORKER = "{{job}} {{worker}}"
_NO_WEBSOCKETS = "no WebSockets"


def build() -> Dashboard:
    """Declare the dashboard."""
    http = [_now(), _rate_errors_duration(), _routes(), _details(), _websockets()]
    return Dashboard(
        SERVICES,
        "Services",
        "Requests, errors and durations of every instrumented service, by the semantic "
        "conventions for HTTP. Below: WebSockets, the gateway and the worker processes.",
        [*http, _gateway(), _gateway_http(), _processes(), _runtime()],
        [service(), handle()],
        [
            link("Logs", LOGS, "The selected services' logs in the same time range"),
            link("Overview", OVERVIEW, "All containers"),
        ],
    )


def _now() -> Band:
    down = panel(
        "services.down_count",
        "Not answering",
        "Selected services and components that should run but don't answer.",
        stat(
            Target(queries.SERVICES_DOWN_SELECTED, instant=True),
            scale=Scale(steps=ANY_IS_RED, decimals=0),
        ),
    )
    failing = panel(
        "services.error_share",
        "Failing",
        "Share of requests answered with a 5xx status.",
        stat(
            Target(queries.ERROR_SHARE_SELECTED),
            scale=Scale("percentunit", FAILURES, least=0, decimals=1),
        ),
    )
    rate = panel(
        "services.rate_total",
        "Requests",
        "Requests answered per second.",
        stat(Target(queries.REQUESTS_SELECTED), scale=Scale("reqps", NEUTRAL), background=False),
    )
    p95 = panel(
        "services.p95",
        "95th percentile",
        "Duration that 95 % of requests don't exceed, including the last byte.",
        stat(Target(queries.P95_SELECTED), scale=Scale("s", NEUTRAL), background=False),
    )
    active = panel(
        "services.active_total",
        "In progress",
        "Requests in progress now.",
        stat(
            Target(queries.ACTIVE_SELECTED),
            scale=Scale(steps=NEUTRAL, decimals=0),
            background=False,
        ),
    )
    websockets = panel(
        "services.websockets_total",
        "WebSockets",
        "WebSocket connections open now.",
        stat(Target(queries.WS_SELECTED), scale=Scale(steps=NEUTRAL, decimals=0), background=False),
    )
    return Band(4, [down, failing, rate, p95, active, websockets])


def _rate_errors_duration() -> Band:
    rate = panel(
        "services.rate",
        "Requests by route",
        "Requests answered per second, for the 20 busiest routes. Paths that match no route are "
        "one group.",
        lines(
            Target(queries.REQUESTS_BY_ROUTE, "{{job}} {{http_request_method}} {{http_route}}"),
            scale=Scale("reqps", least=0),
        ),
    )
    errors = panel(
        "services.errors",
        "Failing requests",
        "Share of requests answered with a 5xx status, by service. An alert fires above 5 % for "
        "5 minutes.",
        lines(
            Target(queries.ERROR_SHARE_BY_SERVICE, "{{job}} {{handle}}"),
            scale=Scale("percentunit", ((0, GREEN), (0.05, RED)), least=0),
            limits=True,
        ),
    )
    latency = panel(
        "services.latency",
        "Duration",
        "Median, 95th and 99th percentile of the request duration, the selected services together.",
        lines(*quantiles(queries.request_quantile), scale=Scale("s", least=0)),
    )
    return Band(8, [rate, errors, latency])


def _routes() -> Band:
    up = panel(
        "services.up",
        "Answering",
        "Whether services and components that should run answer Prometheus' scrapes.",
        timeline(
            Target(queries.SERVICES_UP, "{{at}} {{job}}"),
            scale=Scale(steps=((0, RED), (1, GREEN)), texts=ANSWERING, decimals=0),
        ),
    )
    query = queries.ROUTES
    columns = [
        Column("Requests/s", query["Requests/s"], "reqps"),
        Column("5xx", query["5xx"], "percentunit", FAILURES),
        Column("p50", query["p50"], "s"),
        Column("p95", query["p95"], "s"),
    ]
    chosen = "${__value.text:percentencode}"
    links = (
        ("Only this service", address(SERVICES, service=chosen)),
        ("Its logs", address(LOGS, service=chosen)),
    )
    method, route = Key("http_request_method", "Method"), Key("http_route", "Route")
    keys = [Key("job", "Service", links), method, route]
    routes = panel(
        "services.routes",
        "Routes",
        "Rate, failures and durations by route, over the whole time range.",
        key_table(keys, columns, sort="Requests/s", scale=Scale(empty="no requests")),
    )
    routes.field_config.overrides += [
        # An app whose router is unknown has no routes: its requests are one group.
        override("Route", custom__width=200, noValue="no route"),
        override("Requests/s", custom__width=130),
    ]
    return Band(9, [up, routes], widths=[8, 16])


def _details() -> Band:
    failures = panel(
        "services.failures",
        "4xx and 5xx",
        "Answers per second by status and error type. An unhandled exception is a 500 with its "
        "class.",
        lines(
            Target(
                queries.FAILURES_BY_KIND, "{{job}} {{http_response_status_code}} {{error_type}}"
            ),
            scale=Scale("reqps", least=0),
        ),
    )
    durations = panel(
        "services.heatmap",
        "Durations",
        "Distribution of request durations.",
        heat(Target(queries.DURATION_BUCKETS, "{{le}}", form="heatmap"), scale=Scale("s")),
    )
    active = panel(
        "services.active",
        "In progress",
        "Requests in progress, by service.",
        lines(Target(queries.ACTIVE_BY_SERVICE, "{{job}}"), scale=Scale(least=0, decimals=0)),
    )
    sizes = panel(
        "services.body_sizes",
        "Body sizes",
        "Bytes per second of request bodies (in) and response bodies (out), by service.",
        lines(
            Target(queries.REQUEST_BYTES, "{{job}} in"),
            Target(queries.RESPONSE_BYTES, "{{job}} out"),
            scale=Scale("Bps", least=0),
        ),
    )
    return Band(8, [failures, durations, active, sizes])


def _websockets() -> Band:
    connections = panel(
        "services.ws_connections",
        "Connections",
        "Open WebSocket connections, by service.",
        lines(
            Target(queries.WS_CONNECTIONS, "{{job}}"),
            scale=Scale(least=0, decimals=0, empty=_NO_WEBSOCKETS),
        ),
    )
    messages = panel(
        "services.ws_messages",
        "Messages",
        "WebSocket messages per second, received from and sent to clients.",
        lines(
            Target(queries.WS_MESSAGES, "{{job}} {{network_io_direction}}"),
            scale=Scale("ops", least=0, empty=_NO_WEBSOCKETS),
        ),
    )
    duration = panel(
        "services.ws_duration",
        "Connection duration",
        "Median duration of connections that ended.",
        lines(
            Target(queries.WS_DURATION_P50, "{{job}}"),
            scale=Scale("s", least=0, empty=_NO_WEBSOCKETS),
        ),
    )
    return Band(7, [connections, messages, duration], title="WebSockets")


def _gateway() -> Band:
    queue = panel(
        "gateway.queue",
        "Dispatch queue",
        "Messages that wait for the kernel. An alert fires at more than 10 for 5 minutes.",
        lines(
            Target(queries.DISPATCH_QUEUE, "{{job}} {{handle}}"),
            scale=Scale(steps=((0, GREEN), (10, ORANGE)), least=0, decimals=0),
            limits=True,
        ),
    )
    dispatches = panel(
        "gateway.dispatches",
        "Dispatches",
        "Dispatches finished per second, by source and status.",
        lines(
            Target(queries.DISPATCHES_SELECTED, "{{source}} {{status}}"),
            scale=Scale("ops", least=0),
        ),
    )
    latency = panel(
        "gateway.dispatch_latency",
        "Dispatch duration",
        "Time from accepting a message to the end of its answer.",
        lines(
            *quantiles(queries.dispatch_quantile), scale=Scale("s", least=0, empty="no dispatches")
        ),
    )
    return Band(8, [queue, dispatches, latency], title="Gateway")


def _gateway_http() -> Band:
    paths = panel(
        "gateway.paths",
        "Gateway requests",
        "Requests answered per second, by method, path and status.",
        lines(
            Target(queries.GATEWAY_PATHS, "{{method}} {{path}} {{status}}"),
            scale=Scale("reqps", least=0),
        ),
    )
    latency = panel(
        "gateway.path_latency",
        "Gateway durations",
        "95th percentile of the request duration, by method and path.",
        lines(Target(queries.GATEWAY_PATH_P95, "{{method}} {{path}}"), scale=Scale("s", least=0)),
    )
    notices = panel(
        "gateway.notices",
        "Alert notices",
        "Alert notices received by webhook per minute, by state and severity.",
        lines(Target(queries.NOTICES, "{{status}} {{severity}}"), scale=Scale("opm", least=0)),
    )
    return Band(8, [paths, latency, notices])


def _processes() -> Band:
    cpu = panel(
        "services.cpu",
        "CPU",
        "CPU cores used by each worker process.",
        lines(Target(queries.WORKER_CPU, _WORKER), scale=Scale(least=0)),
    )
    memory = panel(
        "services.memory",
        "Memory",
        "Resident memory of each worker process.",
        lines(Target(queries.WORKER_MEMORY, _WORKER), scale=Scale("bytes", least=0)),
    )
    lag = panel(
        "services.loop_lag",
        "Event-loop lag",
        "99th percentile of how late the event loop wakes up. Blocking calls show here.",
        lines(Target(queries.WORKER_LAG, _WORKER), scale=Scale("s", least=0)),
    )
    uptime = panel(
        "services.uptime",
        "Uptime",
        "Time since each worker process started. A drop is a restart.",
        lines(Target(queries.WORKER_UPTIME, _WORKER), scale=Scale("s", least=0)),
    )
    return Band(8, [cpu, memory, lag, uptime], title="Processes")


def _runtime() -> Band:
    files = panel(
        "services.files",
        "Open files",
        "File descriptors of each worker process.",
        lines(Target(queries.WORKER_FILES, _WORKER), scale=Scale(least=0, decimals=0)),
    )
    threads = panel(
        "services.threads",
        "Threads",
        "Threads of each worker process.",
        lines(Target(queries.WORKER_THREADS, _WORKER), scale=Scale(least=0, decimals=0)),
    )
    collections = panel(
        "services.gc",
        "Garbage collections",
        "Garbage collections per second, by generation. The oldest generation causes pauses.",
        lines(
            Target(queries.WORKER_GC, "{{job}} generation {{cpython_gc_generation}}"),
            scale=Scale("ops", least=0),
        ),
    )
    return Band(7, [files, threads, collections])
