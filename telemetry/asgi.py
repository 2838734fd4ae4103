"""The ASGI middleware: HTTP metrics, trace context, `/metrics`, lifespan.

Pure ASGI, outermost. A request costs two clock readings, one plain (not async) send wrapper
and a few additions into pre-aggregated cells; names, labels and views are worked out when
somebody collects. Exceptions are always raised on. Telemetry never decides what is answered.

Conventions: https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_left
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

from opentelemetry import context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from telemetry import catalog, frameworks, routes
from telemetry.exposition import MetricsEndpoint
from telemetry.metrics.points import Attributes, canonical
from telemetry.metrics.registry import Instrument, Series
from telemetry.websocket import WebSocketMetrics

if TYPE_CHECKING:
    from telemetry.pipeline import Pipeline

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
CLIENT_GONE = "client_disconnected"
CANCELLED = "cancelled"
INCOMPLETE = "incomplete_response"

_CACHE_LIMIT = 10_000  # series are limited per instrument; this bounds the keys that overflow
_DURATION = catalog.HTTP_SERVER_REQUEST_DURATION.buckets
# Whole numbers compare twice as fast as with the catalog's floats.
_SIZE = tuple(int(bound) for bound in catalog.HTTP_SERVER_REQUEST_BODY_SIZE.buckets)
_NOWHERE = "\0"  # no path has it
_propagator = TraceContextTextMapPropagator()


class _Method:
    """What is kept for one method and scheme."""

    __slots__ = ("active", "outcomes")

    def __init__(self, active: Series) -> None:
        self.active = active
        self.outcomes: dict[tuple[int, int, str, str], _Outcome] = {}
        """By route's id, status, error and what the routers noted."""


class _Outcome:
    """The series that one kind of outcome is counted in. Holds its route: it is found by the
    route's id, which must not be another's meanwhile."""

    __slots__ = ("attributes", "duration", "request_size", "response_size", "route")

    def __init__(
        self, attributes: Attributes, route: Any, duration: Series, response_size: Series
    ) -> None:
        self.attributes = attributes
        self.route = route
        self.duration = duration
        self.response_size = response_size
        self.request_size: Series | None = None


class _Exchange:
    """What is seen of one request and its answer as they pass. Of its own, not of the
    middleware: several requests are open at once."""

    __slots__ = ("ended", "gone", "received", "sent", "server_receive", "server_send", "status")

    server_receive: Receive
    server_send: Send
    status: int
    sent: int
    received: int
    ended: float
    gone: bool

    # Not async: it returns the server's own coroutine, which costs no further frame.
    def send(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind == "http.response.body":
            self.sent += len(message.get("body", b""))
            if not message.get("more_body") and not self.ended:
                # The clock stops here, not after background tasks.
                self.ended = perf_counter()
        elif kind == "http.response.start":
            self.status = message["status"]
        elif kind == "http.response.pathsend":
            self.sent = _file_size(message["path"])
            self.ended = perf_counter()
        return self.server_send(message)

    async def receive(self) -> Message:
        message = await self.server_receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
        elif not self.ended:
            self.gone = True
        return message

    def unfinished(self) -> str:
        """What to call it that the app returned and the client hasn't got a whole answer."""
        if self.gone:
            return CLIENT_GONE
        self.status = self.status or 500  # what the server answers in the app's stead
        return INCOMPLETE

    def failed(self, error: BaseException) -> str:
        """What to call it that the app raised."""
        if self.ended and self.status < 500:
            # A background task that fails after a good answer doesn't make it a bad one.
            return CLIENT_GONE if self.gone else ""
        if not self.ended and (self.gone or _says_gone(error)):
            return CLIENT_GONE
        self.status = self.status or 500
        return type(error).__qualname__


class TelemetryMiddleware:
    """Wraps an ASGI app; see `telemetry.instrument`.

    Args:
        app: the app.
        pipeline: where what is counted goes; started with the app.
        metrics_path: where `/metrics` answers, "" for nowhere.
    """

    def __init__(self, app: ASGIApp, pipeline: Pipeline, metrics_path: str) -> None:
        self.app = app
        self.pipeline = pipeline
        self._metrics_path = metrics_path or _NOWHERE
        self._endpoint = MetricsEndpoint(pipeline)
        registry = pipeline.registry
        self._duration = registry.instrument(catalog.HTTP_SERVER_REQUEST_DURATION)
        self._response_size = registry.instrument(catalog.HTTP_SERVER_RESPONSE_BODY_SIZE)
        self._request_size = registry.instrument(catalog.HTTP_SERVER_REQUEST_BODY_SIZE)
        self._active_requests = registry.instrument(catalog.HTTP_SERVER_ACTIVE_REQUESTS)
        self._websocket = WebSocketMetrics(app, registry)
        self._methods: dict[tuple[str, str | None], _Method] = {}
        registry.resets.append(self._methods.clear)
        frameworks.watch()

    def __getattr__(self, name: str) -> Any:
        # `app.state`, `app.routes`, `app.add_route` go on working after `app = instrument(app)`.
        if name == "app":
            raise AttributeError(name)
        return getattr(self.app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or routes.NOTE in scope:
            await self._other(scope, receive, send)
            return
        if scope["path"].endswith(self._metrics_path) and self._is_metrics(scope):
            await self._metrics(scope, receive, send)
            return
        started = perf_counter()
        scope[routes.NOTE] = ""
        method = self._methods.get((scope["method"], scope.get("scheme"))) or self._new_method(
            scope
        )
        active = method.active
        active.cells[0] += 1
        token = None
        for name, _ in scope["headers"]:
            if name == b"traceparent":
                token = _attach(scope)
                break
        exchange = _Exchange()
        exchange.server_receive = receive
        exchange.server_send = send
        exchange.status = exchange.sent = exchange.received = 0
        exchange.ended = 0.0
        exchange.gone = False
        error = ""
        try:
            await self.app(scope, exchange.receive, exchange.send)
            if exchange.gone or not exchange.ended:
                error = exchange.unfinished()
        except asyncio.CancelledError:
            if not exchange.ended:
                error = CLIENT_GONE if exchange.gone else CANCELLED
            raise
        except BaseException as exc:
            error = exchange.failed(exc)
            raise
        finally:
            active.cells[0] -= 1
            if token is not None:
                context.detach(token)
            outcome = method.outcomes.get(
                (id(scope.get("route")), exchange.status, error, scope[routes.NOTE])
            ) or self._new_outcome(method, scope, exchange.status, error)
            elapsed = (exchange.ended or perf_counter()) - started
            cells = outcome.duration.cells
            cells[bisect_left(_DURATION, elapsed) + 1] += 1
            cells[0] += elapsed
            size = exchange.sent
            cells = outcome.response_size.cells
            cells[bisect_left(_SIZE, size) + 1] += 1
            cells[0] += size
            if exchange.received:
                self._record_request_size(outcome, exchange.received)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in ("http", "websocket", "lifespan"):
            await self.app(scope, receive, send)
        elif routes.NOTE in scope:
            # Instrumented twice, by code and by `telemetry run`, say: the outer one counts.
            if kind == "http" and self._is_metrics(scope):
                await self._metrics(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        elif kind == "websocket":
            self.pipeline.start()
            scope[routes.NOTE] = ""
            token = _attach(scope)
            try:
                await self._websocket(scope, receive, send)
            finally:
                context.detach(token)
        else:
            scope[routes.NOTE] = ""
            await self._lifespan(scope, receive, send)

    def _is_metrics(self, scope: Scope) -> bool:
        path: str = scope["path"]
        # A server's root path is part of the path (ASGI 3.0), of old ones it isn't.
        return path == self._metrics_path or (
            path == scope.get("root_path", "") + self._metrics_path
        )

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.pipeline.start()
        await self._endpoint(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.pipeline.start()
        self._methods.clear()  # a lifespan before this one ended its series of open requests

        async def flushed_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                # The server may exit the moment it hears this, without running atexit.
                await asyncio.to_thread(self.pipeline.finish)
            await send(message)

        await self.app(scope, receive, flushed_send)

    def _new_method(self, scope: Scope) -> _Method:
        self.pipeline.start()
        if len(self._methods) >= _CACHE_LIMIT:
            self._methods.clear()
        attributes = {
            "http.request.method": _known(scope),
            "url.scheme": scope.get("scheme", "http"),
        }
        method = _Method(self._active_requests.at(attributes))
        self._methods[scope["method"], scope.get("scheme")] = method
        return method

    def _new_outcome(self, method: _Method, scope: Scope, status: int, error: str) -> _Outcome:
        route, note = scope.get("route"), scope[routes.NOTE]
        attributes = canonical(
            {
                "http.request.method": _known(scope),
                "http.route": routes.template(route, note),
                "http.response.status_code": status or "",
                # Conventions: a 5xx that no exception explains has its code as error type.
                "error.type": error or (status if status >= 500 else ""),
                "url.scheme": scope.get("scheme", "http"),
            }
        )
        outcome = _Outcome(
            attributes,
            route,
            _series(self._duration, attributes),
            _series(self._response_size, attributes),
        )
        if len(method.outcomes) >= _CACHE_LIMIT:
            method.outcomes.clear()
        method.outcomes[id(route), status, error, note] = outcome
        return outcome

    def _record_request_size(self, outcome: _Outcome, size: int) -> None:
        series = outcome.request_size
        if series is None:
            series = outcome.request_size = _series(self._request_size, outcome.attributes)
        cells = series.cells
        cells[bisect_left(_SIZE, size) + 1] += 1
        cells[0] += size


def _known(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "_OTHER"


def _series(instrument: Instrument, attributes: Attributes) -> Series:
    return instrument.at(dict(attributes))


def _says_gone(error: BaseException) -> bool:
    """Whether an exception tells that the client went away: a framework's own, or a server's
    from ``send`` (ASGI 2.4). Not any ConnectionError: a back end that is gone raises those."""
    return type(error).__name__ in ("ClientDisconnect", "ClientDisconnected", "RequestAborted")


def _attach(scope: Scope) -> Any:
    """Make the caller's trace the current one, so that logs carry its id without any span."""
    carrier = {}
    for name, value in scope["headers"]:
        if name in (b"traceparent", b"tracestate"):
            carrier[name.decode("latin-1")] = value.decode("latin-1")
    return context.attach(_propagator.extract(carrier))


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
