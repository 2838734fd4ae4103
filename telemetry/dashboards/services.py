"""Services: rate, errors, duration of any instrumented app, and how its processes are."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from telemetry.dashboards import queries
from telemetry.dashboards.dashboard import Band, address, handle, link, service
from telemetry.dashboards.dashboard import build as frame
from telemetry.dashboards.overview import ANY_IS_RED, FAILURE_STEPS
from telemetry.dashboards.panel_ids import LOGS, OVERVIEW, SERVICES
from telemetry.dashboards.panels import About, heat, lines, stat_panel, timeline
from telemetry.dashboards.style import CALM, GREEN, ORANGE, RED, override
from telemetry.dashboards.tables import Column, key_table
from telemetry.dashboards.targets import Ask

_WORKER = "{{job}} {{worker}}"
_NO_WEBSOCKETS = "no WebSockets"
ANSWERING = ((0, "not answering", RED), (1, "answering", GREEN))


def build() -> Dashboard:
    """The dashboard."""
    return frame(
        SERVICES,
        "Requests, errors and durations of every instrumented service, by the semantic "
        "conventions for HTTP; below them WebSockets, the gateway's kernel and the processes.",
        [
            _now(),
            _red(),
            _routes(),
            _shape(),
            _websockets(),
            _gateway(),
            _gateway_http(),
            _processes(),
            _runtime(),
        ],
        [service(), handle()],
        links=[
            link("Logs", LOGS, "The selected services' logs in the same time range"),
            link("Overview", OVERVIEW, "All containers"),
        ],
    )


def _now() -> Band:
    down = About(
        "services.down_count", "Not answering",
        "Of the selected services and engines, those meant to run that do not answer.",
        steps=ANY_IS_RED, decimals=0,
    )  # fmt: skip
    rate = About(
        "services.rate_total", "Requests", "Answered a second.", "reqps", CALM,
    )  # fmt: skip
    failing = About(
        "services.error_share", "Failing",
        "Share of requests answered with a 5xx status.", "percentunit", FAILURE_STEPS,
        least=0, decimals=1,
    )  # fmt: skip
    p95 = About(
        "services.p95", "95 % within",
        "95 % of requests were answered within this time, the last byte included.", "s", CALM,
    )  # fmt: skip
    active = About(
        "services.active_total", "In progress", "Requests being answered now.",
        steps=CALM, decimals=0,
    )  # fmt: skip
    websockets = About(
        "services.websockets_total", "WebSockets", "Connections open now.",
        steps=CALM, decimals=0,
    )  # fmt: skip
    return Band(
        4,
        [
            (4, stat_panel(down, Ask(queries.SERVICES_DOWN_SELECTED, instant=True))),
            (4, stat_panel(failing, Ask(queries.ERROR_SHARE_SELECTED))),
            (4, stat_panel(rate, Ask(queries.REQUESTS_SELECTED), background=False)),
            (4, stat_panel(p95, Ask(queries.P95_SELECTED), background=False)),
            (4, stat_panel(active, Ask(queries.ACTIVE_SELECTED), background=False)),
            (4, stat_panel(websockets, Ask(queries.WS_SELECTED), background=False)),
        ],
    )


def _red() -> Band:
    rate = About(
        "services.rate", "Requests by route",
        "Answered a second, the 20 busiest routes; paths that match no route are one group.",
        "reqps", least=0,
    )  # fmt: skip
    errors = About(
        "services.errors", "Failing requests",
        "Share answered with a 5xx status, by service. Above 5 % for 5 minutes alerts.",
        "percentunit", ((0, GREEN), (0.05, RED)), least=0,
    )  # fmt: skip
    latency = About(
        "services.latency", "Duration",
        "Within which half, 95 % and 99 % of requests were answered, the selected services "
        "together.", "s", least=0,
    )  # fmt: skip
    route = "{{job}} {{http_request_method}} {{http_route}}"
    return Band(
        8,
        [
            (8, lines(rate, Ask(queries.REQUESTS_BY_ROUTE, route))),
            (
                8,
                lines(
                    errors, Ask(queries.ERROR_SHARE_BY_SERVICE, "{{job}} {{handle}}"), limits=True
                ),
            ),
            (
                8,
                lines(
                    latency,
                    *(Ask(queries.request_quantile(q), f"p{100 * q:g}") for q in (0.5, 0.95, 0.99)),
                ),
            ),
        ],
    )


def _routes() -> Band:
    up = About(
        "services.up", "Answering",
        "Whether what is meant to run answers Prometheus' scrapes: services and engines.",
        steps=((0, RED), (1, GREEN)), mappings=ANSWERING, decimals=0,
    )  # fmt: skip
    routes = About(
        "services.routes", "Routes",
        "Rate, failures and durations over the whole time range, by route.",
        empty="no requests",
    )  # fmt: skip
    asked = queries.ROUTES
    columns = [
        Column("Requests/s", asked["Requests/s"], "reqps"),
        Column("5xx", asked["5xx"], "percentunit", FAILURE_STEPS),
        Column("p50", asked["p50"], "s"),
        Column("p95", asked["p95"], "s"),
    ]
    keys = {"job": "Service", "http_request_method": "Method", "http_route": "Route"}
    chosen = "${__value.text:percentencode}"
    links = {
        "job": (
            ("Only this service", address(SERVICES, service=chosen)),
            ("Its logs", address(LOGS, service=chosen)),
        )
    }
    table = key_table(routes, keys, columns, links, "Requests/s")
    # An app whose router is unknown has none: its requests are one group.
    table.field_config.overrides.append(override("Route", custom__width=200, noValue="no route"))
    table.field_config.overrides.append(override("Requests/s", custom__width=130))
    return Band(9, [(8, timeline(up, Ask(queries.SERVICES_UP, "{{at}} {{job}}"))), (16, table)])


def _shape() -> Band:
    failures = About(
        "services.failures", "4xx and 5xx",
        "Answers a second by status and error type; an unhandled exception is 500 with its "
        "class.", "reqps", least=0,
    )  # fmt: skip
    buckets = About(
        "services.heatmap", "Durations", "How many requests took how long.", "s",
    )  # fmt: skip
    active = About(
        "services.active", "In progress", "Requests being answered, by service.", least=0,
        decimals=0,
    )  # fmt: skip
    sizes = About(
        "services.body_sizes", "Body sizes",
        "Bytes a second of request bodies (in) and response bodies (out), by service.", "Bps",
        least=0,
    )  # fmt: skip
    kind = "{{job}} {{http_response_status_code}} {{error_type}}"
    return Band(
        8,
        [
            (6, lines(failures, Ask(queries.FAILURES_BY_KIND, kind))),
            (6, heat(buckets, Ask(queries.DURATION_BUCKETS, "{{le}}", form="heatmap"))),
            (6, lines(active, Ask(queries.ACTIVE_BY_SERVICE, "{{job}}"))),
            (
                6,
                lines(
                    sizes,
                    Ask(queries.REQUEST_BYTES, "{{job}} in"),
                    Ask(queries.RESPONSE_BYTES, "{{job}} out"),
                ),
            ),
        ],
    )


def _websockets() -> Band:
    connections = About(
        "services.ws_connections", "Connections", "WebSocket connections open, by service.",
        least=0, decimals=0, empty=_NO_WEBSOCKETS,
    )  # fmt: skip
    messages = About(
        "services.ws_messages", "Messages",
        "WebSocket messages a second, received from and sent to clients.", "ops", least=0,
        empty=_NO_WEBSOCKETS,
    )  # fmt: skip
    duration = About(
        "services.ws_duration", "Connection length",
        "Median length of the connections that ended.", "s", least=0, empty=_NO_WEBSOCKETS,
    )  # fmt: skip
    return Band(
        7,
        [
            (8, lines(connections, Ask(queries.WS_CONNECTIONS, "{{job}}"))),
            (8, lines(messages, Ask(queries.WS_MESSAGES, "{{job}} {{network_io_direction}}"))),
            (8, lines(duration, Ask(queries.WS_DURATION_P50, "{{job}}"))),
        ],
        "WebSockets",
    )


def _gateway() -> Band:
    queue = About(
        "gateway.queue", "Dispatch queue",
        "Messages waiting for the kernel. More than 10 for 5 minutes alerts.",
        steps=((0, GREEN), (10, ORANGE)), least=0, decimals=0,
    )  # fmt: skip
    dispatches = About(
        "gateway.dispatches", "Dispatches",
        "Messages the kernel has finished with a second, by source and how they ended.", "ops",
        least=0,
    )  # fmt: skip
    latency = About(
        "gateway.dispatch_latency", "Dispatch duration",
        "From a message's acceptance to its answer's end.", "s", least=0, empty="no dispatches",
    )  # fmt: skip
    return Band(
        8,
        [
            (8, lines(queue, Ask(queries.DISPATCH_QUEUE, "{{job}} {{handle}}"), limits=True)),
            (8, lines(dispatches, Ask(queries.DISPATCHES_SELECTED, "{{source}} {{status}}"))),
            (
                8,
                lines(
                    latency,
                    *(
                        Ask(queries.dispatch_quantile(q), f"p{100 * q:g}")
                        for q in (0.5, 0.95, 0.99)
                    ),
                ),
            ),
        ],
        "Gateway",
    )


def _gateway_http() -> Band:
    paths = About(
        "gateway.paths", "Gateway requests",
        "Answered a second, by method, path and status.", "reqps", least=0,
    )  # fmt: skip
    latency = About(
        "gateway.path_latency", "Gateway durations",
        "Within which 95 % of requests were answered, by method and path.", "s", least=0,
    )  # fmt: skip
    notices = About(
        "gateway.notices", "Alert notices",
        "Received by webhook a minute, by state and severity.", "opm", least=0,
    )  # fmt: skip
    return Band(
        8,
        [
            (8, lines(paths, Ask(queries.GATEWAY_PATHS, "{{method}} {{path}} {{status}}"))),
            (8, lines(latency, Ask(queries.GATEWAY_PATH_P95, "{{method}} {{path}}"))),
            (8, lines(notices, Ask(queries.NOTICES, "{{status}} {{severity}}"))),
        ],
    )


def _processes() -> Band:
    cpu = About(
        "services.cpu", "CPU", "Cores used by each worker process.", "short", least=0,
    )  # fmt: skip
    memory = About(
        "services.memory", "Memory", "Resident memory of each worker process.", "bytes", least=0,
    )  # fmt: skip
    lag = About(
        "services.loop_lag", "Event-loop lag",
        "99 % of the event loop's wake-ups were at most this late: what blocks it shows here.",
        "s", least=0,
    )  # fmt: skip
    uptime = About(
        "services.uptime", "Uptime",
        "How long each worker process has run: a fall is a restart.", "s", least=0,
    )  # fmt: skip
    return Band(
        8,
        [
            (6, lines(cpu, Ask(queries.WORKER_CPU, _WORKER))),
            (6, lines(memory, Ask(queries.WORKER_MEMORY, _WORKER))),
            (6, lines(lag, Ask(queries.WORKER_LAG, _WORKER))),
            (6, lines(uptime, Ask(queries.WORKER_UPTIME, _WORKER))),
        ],
        "Processes",
    )


def _runtime() -> Band:
    files = About(
        "services.files", "Open files", "File descriptors of each worker process.", least=0,
        decimals=0,
    )  # fmt: skip
    threads = About(
        "services.threads", "Threads", "Threads of each worker process.", least=0, decimals=0,
    )  # fmt: skip
    collections = About(
        "services.gc", "Garbage collections",
        "A second, by generation; the oldest is the one that pauses.", "ops", least=0,
    )  # fmt: skip
    return Band(
        7,
        [
            (8, lines(files, Ask(queries.WORKER_FILES, _WORKER))),
            (8, lines(threads, Ask(queries.WORKER_THREADS, _WORKER))),
            (
                8,
                lines(
                    collections,
                    Ask(queries.WORKER_GC, "{{job}} generation {{cpython_gc_generation}}"),
                ),
            ),
        ],
    )
