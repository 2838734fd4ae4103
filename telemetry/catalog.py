"""Every metric of this project, once: name, kind, unit, attributes, buckets, description.

Dashboards, alert rules, the exposition, the documentation and the tests all read from here.
A constant is the dotted OpenTelemetry name in capitals. Units follow UCUM; an annotation in
braces adds nothing to the Prometheus name.

Sources: the HTTP, process, CPython and GenAI semantic conventions
(https://opentelemetry.io/docs/specs/semconv/), which also recommend the buckets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from telemetry.naming import Kind, prometheus_name


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        name: dotted OpenTelemetry name.
        kind: counter (only rises), gauge (a current value), updowncounter (a gauge that adds
            up across processes), histogram.
        unit: UCUM unit of a value.
        description: one sentence for people.
        attributes: keys that a series may have, in the order they are shown.
        buckets: upper bounds of a histogram in ``unit``, rising, without +Inf.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @cached_property
    def prometheus(self) -> str:
        """The Prometheus name, e.g. ``http_server_request_duration_seconds``."""
        return prometheus_name(self.name, self.kind, self.unit)


METRICS: dict[str, Metric] = {}


def _metric(metric: Metric) -> Metric:
    METRICS[metric.name] = metric
    return metric


def _counter(name: str, unit: str, description: str, attributes: str = "") -> Metric:
    return _metric(Metric(name, "counter", unit, description, tuple(attributes.split())))


def _gauge(name: str, unit: str, description: str, attributes: str = "") -> Metric:
    return _metric(Metric(name, "gauge", unit, description, tuple(attributes.split())))


def _updowncounter(name: str, unit: str, description: str, attributes: str = "") -> Metric:
    return _metric(Metric(name, "updowncounter", unit, description, tuple(attributes.split())))


def _histogram(
    name: str, unit: str, description: str, attributes: str, buckets: tuple[float, ...]
) -> Metric:
    keys = tuple(attributes.split())
    return _metric(Metric(name, "histogram", unit, description, keys, buckets))


# --- any instrumented app -------------------------------------------------------------------

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# The conventions recommend no buckets for sizes. Powers of four from 64 bytes to 64 MiB keep a
# histogram at twelve bucket series; chosen by judgement, not measured.
SIZE_BUCKETS = tuple(float(64 * 4**i) for i in range(11))

_HTTP = "http.request.method http.route http.response.status_code error.type url.scheme"
HTTP_SERVER_REQUEST_DURATION = _histogram(
    "http.server.request.duration",
    "s",
    "Time from a request's arrival to the end of its response.",
    _HTTP,
    DURATION_BUCKETS,
)
HTTP_SERVER_ACTIVE_REQUESTS = _updowncounter(
    "http.server.active_requests",
    "{request}",
    "Requests in progress.",
    "http.request.method url.scheme",
)
HTTP_SERVER_REQUEST_BODY_SIZE = _histogram(
    "http.server.request.body.size",
    "By",
    "Size of request bodies, of requests that have one.",
    _HTTP,
    SIZE_BUCKETS,
)
HTTP_SERVER_RESPONSE_BODY_SIZE = _histogram(
    "http.server.response.body.size",
    "By",
    "Size of response bodies as sent by the app.",
    _HTTP,
    SIZE_BUCKETS,
)
WEBSOCKET_SERVER_ACTIVE_CONNECTIONS = _updowncounter(
    "websocket.server.active_connections",
    "{connection}",
    "WebSocket connections open now.",
    "url.scheme",
)
WEBSOCKET_SERVER_CONNECTION_DURATION = _histogram(
    "websocket.server.connection.duration",
    "s",
    "Duration of WebSocket connections, by close code.",
    "http.route websocket.close.code error.type url.scheme",
    (0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 14400, 86400),
)
WEBSOCKET_SERVER_MESSAGES = _counter(
    "websocket.server.messages",
    "{message}",
    "WebSocket messages, received from and sent to clients.",
    "http.route network.io.direction",
)
TELEMETRY_DROPPED = _counter(
    "telemetry.dropped",
    "{item}",
    "Items that telemetry itself dropped instead of exporting them.",
    "signal reason",
)

_WORKER = "worker"
PROCESS_CPU_TIME = _counter(
    "process.cpu.time", "s", "CPU time of the process.", f"cpu.mode {_WORKER}"
)
PROCESS_MEMORY_USAGE = _updowncounter(
    "process.memory.usage", "By", "Resident memory of the process.", _WORKER
)
PROCESS_UNIX_FILE_DESCRIPTOR_COUNT = _updowncounter(
    "process.unix.file_descriptor.count", "{file_descriptor}", "Open files of the process.", _WORKER
)
PROCESS_THREAD_COUNT = _updowncounter(
    "process.thread.count", "{thread}", "Threads of the process.", _WORKER
)
PROCESS_UPTIME = _gauge("process.uptime", "s", "Time since the process started.", _WORKER)
CPYTHON_GC_COLLECTIONS = _counter(
    "cpython.gc.collections",
    "{collection}",
    "Garbage collections by generation.",
    f"cpython.gc.generation {_WORKER}",
)
CPYTHON_GC_COLLECTED_OBJECTS = _counter(
    "cpython.gc.collected_objects",
    "{object}",
    "Objects the garbage collector freed, by generation.",
    f"cpython.gc.generation {_WORKER}",
)
ASYNCIO_EVENT_LOOP_LAG = _histogram(
    "asyncio.event_loop.lag",
    "s",
    "How late the event loop wakes up; blocking calls delay it.",
    _WORKER,
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

# --- gateway, platform and proxy ------------------------------------------------------------

SERVICES_REQUESTS_REFUSED = _counter(
    "services.requests.refused",
    "{request}",
    "Requests and connections that a service refused to protect itself.",
    "reason",
)

# --- gateway --------------------------------------------------------------------------------

NAMESPACED_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10)
GATEWAY_HTTP_REQUESTS = _counter(
    "gateway.http.requests", "{request}", "Requests answered.", "method path status"
)
GATEWAY_HTTP_REQUEST_DURATION = _histogram(
    "gateway.http.request.duration",
    "s",
    "Time to answer a request.",
    "method path",
    NAMESPACED_BUCKETS,
)
GATEWAY_KERNEL_DISPATCH = _counter(
    "gateway.kernel.dispatch",
    "{dispatch}",
    "Dispatches by status: ok, error, cancelled, rejected.",
    "source status",
)
GATEWAY_KERNEL_DISPATCH_DURATION = _histogram(
    "gateway.kernel.dispatch.duration",
    "s",
    "Time from accepting a message to the end of its answer.",
    "source",
    (0.5, 1, 5, 10, 30, 60, 120),
)
GATEWAY_DISPATCH_QUEUE_DEPTH = _gauge(
    "gateway.dispatch.queue.depth", "{dispatch}", "Messages that wait for the kernel."
)
GATEWAY_WS_CONNECTIONS_ACTIVE = _gauge(
    "gateway.ws.connections.active", "{connection}", "Web shells connected now."
)
GATEWAY_AI_COST = _counter(
    "gateway.ai.cost", "usd", "Cost of the gateway's own model calls.", "model"
)
GATEWAY_AI_TOKENS = _counter(
    "gateway.ai.tokens",
    "{token}",
    "Tokens of the gateway's own model calls, direction input or output.",
    "model direction",
)
GATEWAY_INTERACTION_LOG_FAILURES = _counter(
    "gateway.interaction_log.failures",
    "{failure}",
    "Interaction log lines that could not be written.",
    "reason",
)
GATEWAY_NOTIFICATIONS = _counter(
    "gateway.notifications",
    "{notification}",
    "Alert notices received by webhook.",
    "status severity",
)
GATEWAY_ALERTS_FIRING = _gauge(
    "gateway.alerts.firing",
    "{alert}",
    "Alerts that fire now, as notified to the gateway.",
    "severity",
)

# --- platform -------------------------------------------------------------------------------

PLATFORM_CONTAINERS_TOTAL = _gauge(
    "platform.containers.total", "{container}", "Containers by Docker's state.", "status"
)
PLATFORM_CONTAINER_UP = _gauge(
    "platform.container.up",
    "{container}",
    "1 if the container runs, 0 if it should run but doesn't.",
    "handle",
)
PLATFORM_CONTAINER_HEALTHY = _gauge(
    "platform.container.healthy",
    "{container}",
    "1 if the container's health check passes, 0 if it fails.",
    "handle",
)
PLATFORM_CONTAINER_CPU = _gauge(
    "platform.container.cpu", "%", "CPU use, 100 is one core.", "handle"
)
PLATFORM_CONTAINER_MEMORY = _gauge(
    "platform.container.memory", "By", "Memory working set.", "handle"
)
PLATFORM_CONTAINER_MEMORY_LIMIT = _gauge(
    "platform.container.memory.limit", "By", "Memory limit.", "handle"
)
PLATFORM_CONTAINER_NETWORK_RECEIVE = _counter(
    "platform.container.network.receive", "By", "Bytes received.", "handle"
)
PLATFORM_CONTAINER_NETWORK_TRANSMIT = _counter(
    "platform.container.network.transmit", "By", "Bytes sent.", "handle"
)
PLATFORM_CONTAINER_RESTARTS = _counter(
    "platform.container.restarts",
    "{restart}",
    "Restarts of a container that no user requested.",
    "handle",
)
PLATFORM_CONTAINER_OOM_KILLS = _counter(
    "platform.container.oom_kills",
    "{kill}",
    "Processes of the container killed because its memory ran out.",
    "handle",
)
_OPERATION_BUCKETS = (1.0, 5.0, 10.0, 30.0, 60.0)
PLATFORM_PROVISION_DURATION = _histogram(
    "platform.provision.duration",
    "s",
    "Time to provision a container.",
    "outcome",
    _OPERATION_BUCKETS,
)
PLATFORM_DESTROY_DURATION = _histogram(
    "platform.destroy.duration", "s", "Time to remove a container.", "outcome", _OPERATION_BUCKETS
)

PLATFORM_RELAY_CONNECTIONS = _gauge(
    "platform.relay.connections", "{connection}", "Connections of containers to the relay."
)
PLATFORM_RELAY_CONNECTIONS_REFUSED = _counter(
    "platform.relay.connections.refused",
    "{connection}",
    "Connections to the relay closed at once: too many of one address, in all, or open files.",
    "reason",
)
PLATFORM_RELAY_REFUSED = _counter(
    "platform.relay.refused",
    "{request}",
    "Telemetry requests of a container that the relay refused, by the limit they exceed.",
    "handle reason",
)
PLATFORM_RELAY_DROPPED = _counter(
    "platform.relay.dropped",
    "{point}",
    "Metric points of a container that the relay dropped, since they begin too many series.",
    "handle",
)

# --- proxy ----------------------------------------------------------------------------------

PROXY_API_CALLS = _counter(
    "proxy.api.calls", "{call}", "Model calls in the ledger.", "user_id model status"
)
PROXY_API_COST = _counter(
    "proxy.api.cost", "usd", "Cost of the model calls in the ledger.", "user_id model"
)
PROXY_API_TOKENS = _counter(
    "proxy.api.tokens",
    "{token}",
    "Tokens of the calls in the ledger, by kind: input, output, cache_read, cache_write, "
    "reasoning.",
    "user_id model kind",
)
PROXY_QUOTA_REJECTIONS = _counter(
    "proxy.quota.rejections", "{call}", "Calls refused by a quota.", "user_id"
)
PROXY_USER_COST_TODAY = _gauge(
    "proxy.user.cost.today", "usd", "Cost since midnight UTC.", "user_id"
)
PROXY_USER_BUDGET = _gauge("proxy.user.budget", "usd", "Budget for a UTC day.", "user_id")
PROXY_UNPRICED_CALLS = _counter(
    "proxy.unpriced.calls",
    "{call}",
    "Calls that no price covers; model `other` if the upstream doesn't know the model.",
    "model",
)
PROXY_UPSTREAM_ERRORS = _counter(
    "proxy.upstream.errors",
    "{error}",
    "Calls that failed at the provider, by kind.",
    "provider kind",
)

_GEN_AI = "gen_ai.operation.name gen_ai.provider.name gen_ai.request.model"
_GEN_AI_SECONDS = tuple(0.01 * 2**i for i in range(14))
GEN_AI_CLIENT_TOKEN_USAGE = _histogram(
    "gen_ai.client.token.usage",
    "{token}",
    "Billable tokens of a call, input or output.",
    f"{_GEN_AI} gen_ai.token.type",
    tuple(float(4**i) for i in range(14)),
)
GEN_AI_CLIENT_OPERATION_DURATION = _histogram(
    "gen_ai.client.operation.duration",
    "s",
    "Time a model call took.",
    f"{_GEN_AI} error.type",
    _GEN_AI_SECONDS,
)
GEN_AI_SERVER_TIME_TO_FIRST_TOKEN = _histogram(
    "gen_ai.server.time_to_first_token",
    "s",
    "Time to the first token of a streamed answer.",
    _GEN_AI,
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)
GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN = _histogram(
    "gen_ai.server.time_per_output_token",
    "s",
    "Time per output token after the first.",
    _GEN_AI,
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5),
)
