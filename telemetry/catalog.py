"""Every metric this project emits, once: name, kind, unit, attributes, buckets, description.

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
        kind: counter (only rises), gauge (a present value), updowncounter (a gauge that adds
            up across processes), histogram.
        unit: UCUM unit of a value.
        description: one sentence for people.
        attributes: the keys a series may carry, in the order they are shown.
        buckets: a histogram's upper bounds, in ``unit``, rising, without +Inf.
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


def _metric(
    name: str,
    kind: Kind,
    unit: str,
    description: str,
    attributes: str = "",
    buckets: tuple[float, ...] = (),
) -> Metric:
    metric = Metric(name, kind, unit, description, tuple(attributes.split()), buckets)
    METRICS[name] = metric
    return metric


# --- any instrumented app -------------------------------------------------------------------

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# The conventions recommend none for sizes; powers of four from 64 bytes to 64 MiB keep a
# series at twelve lines. A judgement.
SIZE_BUCKETS = tuple(float(64 * 4**i) for i in range(11))

_HTTP = "http.request.method http.route http.response.status_code error.type url.scheme"
HTTP_SERVER_REQUEST_DURATION = _metric(
    "http.server.request.duration", "histogram", "s",
    "Time from a request's arrival to its last body message.", _HTTP, DURATION_BUCKETS,
)  # fmt: skip
HTTP_SERVER_ACTIVE_REQUESTS = _metric(
    "http.server.active_requests", "updowncounter", "{request}",
    "Requests being answered now.", "http.request.method url.scheme",
)  # fmt: skip
HTTP_SERVER_REQUEST_BODY_SIZE = _metric(
    "http.server.request.body.size", "histogram", "By",
    "Size of request bodies, where there was one.", _HTTP, SIZE_BUCKETS,
)  # fmt: skip
HTTP_SERVER_RESPONSE_BODY_SIZE = _metric(
    "http.server.response.body.size", "histogram", "By",
    "Size of response bodies as sent by the app.", _HTTP, SIZE_BUCKETS,
)  # fmt: skip
WEBSOCKET_SERVER_ACTIVE_CONNECTIONS = _metric(
    "websocket.server.active_connections", "updowncounter", "{connection}",
    "WebSocket connections open now.", "url.scheme",
)  # fmt: skip
WEBSOCKET_SERVER_CONNECTION_DURATION = _metric(
    "websocket.server.connection.duration", "histogram", "s",
    "How long WebSocket connections lasted, by the code that closed them.",
    "http.route websocket.close.code error.type url.scheme",
    (0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 14400, 86400),
)  # fmt: skip
WEBSOCKET_SERVER_MESSAGES = _metric(
    "websocket.server.messages", "counter", "{message}",
    "WebSocket messages, received from and sent to clients.",
    "http.route network.io.direction",
)  # fmt: skip
TELEMETRY_DROPPED = _metric(
    "telemetry.dropped", "counter", "{item}",
    "What telemetry itself dropped: signals that were not exported.", "signal reason",
)  # fmt: skip

_WORKER = "worker"
PROCESS_CPU_TIME = _metric(
    "process.cpu.time", "counter", "s", "CPU time of the process.", f"cpu.mode {_WORKER}"
)
PROCESS_MEMORY_USAGE = _metric(
    "process.memory.usage", "updowncounter", "By", "Resident memory of the process.", _WORKER
)
PROCESS_UNIX_FILE_DESCRIPTOR_COUNT = _metric(
    "process.unix.file_descriptor.count", "updowncounter", "{file_descriptor}",
    "Open files of the process.", _WORKER,
)  # fmt: skip
PROCESS_THREAD_COUNT = _metric(
    "process.thread.count", "updowncounter", "{thread}", "Threads of the process.", _WORKER
)
PROCESS_UPTIME = _metric("process.uptime", "gauge", "s", "Time since the process started.", _WORKER)
CPYTHON_GC_COLLECTIONS = _metric(
    "cpython.gc.collections", "counter", "{collection}",
    "Garbage collections by generation.", f"cpython.gc.generation {_WORKER}",
)  # fmt: skip
CPYTHON_GC_COLLECTED_OBJECTS = _metric(
    "cpython.gc.collected_objects", "counter", "{object}",
    "Objects the garbage collector freed, by generation.", f"cpython.gc.generation {_WORKER}",
)  # fmt: skip
ASYNCIO_EVENT_LOOP_LAG = _metric(
    "asyncio.event_loop.lag", "histogram", "s",
    "How much later than asked for the event loop woke: what blocks it shows here.",
    _WORKER, (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)  # fmt: skip

# --- gateway --------------------------------------------------------------------------------

NAMESPACED_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10)
GATEWAY_HTTP_REQUESTS = _metric(
    "gateway.http.requests", "counter", "{request}", "Requests answered.", "method path status"
)
GATEWAY_HTTP_REQUEST_DURATION = _metric(
    "gateway.http.request.duration", "histogram", "s",
    "Time to answer a request.", "method path", NAMESPACED_BUCKETS,
)  # fmt: skip
GATEWAY_KERNEL_DISPATCH = _metric(
    "gateway.kernel.dispatch", "counter", "{dispatch}",
    "Messages handed to the kernel, by how they ended: ok, error, cancelled, rejected.",
    "source status",
)  # fmt: skip
GATEWAY_KERNEL_DISPATCH_DURATION = _metric(
    "gateway.kernel.dispatch.duration", "histogram", "s",
    "Time from a message's acceptance to its answer's end.", "source",
    (0.5, 1, 5, 10, 30, 60, 120),
)  # fmt: skip
GATEWAY_DISPATCH_QUEUE_DEPTH = _metric(
    "gateway.dispatch.queue.depth", "gauge", "{dispatch}", "Messages waiting for the kernel."
)
GATEWAY_WS_CONNECTIONS_ACTIVE = _metric(
    "gateway.ws.connections.active", "gauge", "{connection}", "Web shells connected now."
)
GATEWAY_AI_COST = _metric(
    "gateway.ai.cost", "counter", "usd", "Cost of the gateway's own model calls.", "model"
)
GATEWAY_AI_TOKENS = _metric(
    "gateway.ai.tokens", "counter", "{token}",
    "Tokens of the gateway's own model calls, direction input or output.", "model direction",
)  # fmt: skip
GATEWAY_INTERACTION_LOG_FAILURES = _metric(
    "gateway.interaction_log.failures", "counter", "{failure}",
    "Interaction log lines that could not be written.", "reason",
)  # fmt: skip
GATEWAY_NOTIFICATIONS = _metric(
    "gateway.notifications", "counter", "{notification}",
    "Alert notices received by webhook.", "status severity",
)  # fmt: skip
GATEWAY_ALERTS_FIRING = _metric(
    "gateway.alerts.firing", "gauge", "{alert}",
    "Alerts firing now, as notified to the gateway.", "severity",
)  # fmt: skip

# --- platform -------------------------------------------------------------------------------

PLATFORM_CONTAINERS_TOTAL = _metric(
    "platform.containers.total", "gauge", "{container}", "Containers by Docker's state.", "status"
)
PLATFORM_CONTAINER_UP = _metric(
    "platform.container.up", "gauge", "{container}",
    "1 where the container runs as wanted, 0 where it is wanted and does not run.", "handle",
)  # fmt: skip
PLATFORM_CONTAINER_HEALTHY = _metric(
    "platform.container.healthy", "gauge", "{container}",
    "1 where the container's health check passes, 0 where it fails.", "handle",
)  # fmt: skip
PLATFORM_CONTAINER_CPU = _metric(
    "platform.container.cpu", "gauge", "%", "CPU use, 100 is one core.", "handle"
)
PLATFORM_CONTAINER_MEMORY = _metric(
    "platform.container.memory", "gauge", "By", "Memory working set.", "handle"
)
PLATFORM_CONTAINER_MEMORY_LIMIT = _metric(
    "platform.container.memory.limit", "gauge", "By", "Memory limit.", "handle"
)
PLATFORM_CONTAINER_NETWORK_RECEIVE = _metric(
    "platform.container.network.receive", "counter", "By", "Bytes received.", "handle"
)
PLATFORM_CONTAINER_NETWORK_TRANSMIT = _metric(
    "platform.container.network.transmit", "counter", "By", "Bytes sent.", "handle"
)
PLATFORM_CONTAINER_RESTARTS = _metric(
    "platform.container.restarts", "counter", "{restart}",
    "Starts of a container after its first that nobody asked for.", "handle",
)  # fmt: skip
PLATFORM_CONTAINER_OOM_KILLS = _metric(
    "platform.container.oom_kills", "counter", "{kill}",
    "Processes of the container killed because its memory ran out.", "handle",
)  # fmt: skip
_OPERATION_BUCKETS = (1.0, 5.0, 10.0, 30.0, 60.0)
PLATFORM_PROVISION_DURATION = _metric(
    "platform.provision.duration", "histogram", "s",
    "Time to provision a container.", "outcome", _OPERATION_BUCKETS,
)  # fmt: skip
PLATFORM_DESTROY_DURATION = _metric(
    "platform.destroy.duration", "histogram", "s",
    "Time to remove a container.", "outcome", _OPERATION_BUCKETS,
)  # fmt: skip

# --- proxy ----------------------------------------------------------------------------------

PROXY_API_CALLS = _metric(
    "proxy.api.calls", "counter", "{call}", "Model calls in the ledger.", "user_id model status"
)
PROXY_API_COST = _metric(
    "proxy.api.cost", "counter", "usd", "Cost of the model calls in the ledger.", "user_id model"
)
PROXY_API_TOKENS = _metric(
    "proxy.api.tokens", "counter", "{token}",
    "Tokens of the calls in the ledger, by kind: input, output, cache_read, cache_write, "
    "reasoning.", "user_id model kind",
)  # fmt: skip
PROXY_QUOTA_REJECTIONS = _metric(
    "proxy.quota.rejections", "counter", "{call}", "Calls refused by a quota.", "user_id"
)
PROXY_USER_COST_TODAY = _metric(
    "proxy.user.cost.today", "gauge", "usd", "Cost since midnight UTC.", "user_id"
)
PROXY_USER_BUDGET = _metric("proxy.user.budget", "gauge", "usd", "Budget for a UTC day.", "user_id")
PROXY_UNPRICED_CALLS = _metric(
    "proxy.unpriced.calls", "counter", "{call}",
    "Calls that no price covers; `other` where the upstream doesn't know the model.", "model",
)  # fmt: skip
PROXY_UPSTREAM_ERRORS = _metric(
    "proxy.upstream.errors", "counter", "{error}",
    "Calls that failed at the provider, by kind.", "provider kind",
)  # fmt: skip

_GEN_AI = "gen_ai.operation.name gen_ai.provider.name gen_ai.request.model"
_GEN_AI_SECONDS = tuple(0.01 * 2**i for i in range(14))
GEN_AI_CLIENT_TOKEN_USAGE = _metric(
    "gen_ai.client.token.usage", "histogram", "{token}",
    "Billable tokens of a call, input or output.", f"{_GEN_AI} gen_ai.token.type",
    tuple(float(4**i) for i in range(14)),
)  # fmt: skip
GEN_AI_CLIENT_OPERATION_DURATION = _metric(
    "gen_ai.client.operation.duration", "histogram", "s",
    "Time a model call took.", f"{_GEN_AI} error.type", _GEN_AI_SECONDS,
)  # fmt: skip
GEN_AI_SERVER_TIME_TO_FIRST_TOKEN = _metric(
    "gen_ai.server.time_to_first_token", "histogram", "s",
    "Time to the first token of a streamed answer.", _GEN_AI,
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
)  # fmt: skip
GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN = _metric(
    "gen_ai.server.time_per_output_token", "histogram", "s",
    "Time per output token after the first.", _GEN_AI,
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5),
)  # fmt: skip
