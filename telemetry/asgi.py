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

from telemetry import catalog, routes
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
_SIZE = catalog.HTTP_SERVER_REQUEST_BODY_SIZE.buckets
_propagator = TraceContextTextMapPropagator()


class _Method:
    """What is kept for one method and scheme."""

    __slots__ = ("active", "outcomes")

    def __init__(self, active: Series) -> None:
        self.active = active
        self.outcomes: dict[tuple[int, int, str, str | None], _Outcome] = {}
        """By route's id, status, error and mounts passed through."""


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
        self._metrics_path = metrics_path or None
        self._endpoint = MetricsEndpoint(pipeline)
        registry = pipeline.registry
        self._duration = registry.instrument(catalog.HTTP_SERVER_REQUEST_DURATION)
        self._response_size = registry.instrument(catalog.HTTP_SERVER_RESPONSE_BODY_SIZE)
        self._request_size = registry.instrument(catalog.HTTP_SERVER_REQUEST_BODY_SIZE)
        self._active_requests = registry.instrument(catalog.HTTP_SERVER_ACTIVE_REQUESTS)
        self._websocket = WebSocketMetrics(app, registry)
        self._methods: dict[tuple[str, str | None], _Method] = {}
        pipeline.after_fork.append(self._methods.clear)  # so that the child starts its own
        routes.watch_mounts()

    def __getattr__(self, name: str) -> Any:
        # `app.state`, `app.routes`, `app.add_route` go on working after `app = instrument(app)`.
        if name == "app":
            raise AttributeError(name)
        return getattr(self.app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        if scope["path"] == self._metrics_path:
            self.pipeline.start()
            await self._endpoint(scope, receive, send)
            return
        started = perf_counter()
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
        status = 0
        sent = received = 0
        ended = 0.0
        gone = False

        def observed_send(message: Message) -> Awaitable[None]:
            nonlocal status, sent, ended
            kind = message["type"]
            if kind == "http.response.body":
                sent += len(message.get("body", b""))
                if not message.get("more_body", False) and not ended:
                    # The clock stops here, not after background tasks.
                    ended = perf_counter()
            elif kind == "http.response.start":
                status = message["status"]
            elif kind == "http.response.pathsend":
                sent = _file_size(message["path"])
                ended = perf_counter()
            return send(message)

        async def observed_receive() -> Message:
            nonlocal received, gone
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
            elif not ended:
                gone = True
            return message

        error = ""
        try:
            await self.app(scope, observed_receive, observed_send)
            if not ended:
                error = CLIENT_GONE if gone else INCOMPLETE
        except asyncio.CancelledError:
            if not ended:
                error = CLIENT_GONE if gone else CANCELLED
            raise
        except BaseException as exc:
            if gone and not ended:
                error = CLIENT_GONE
            elif not ended or status >= 500:
                # A background task that fails after a good answer doesn't make it a bad one.
                error = type(exc).__qualname__
                status = status or 500  # what the server answers in the app's stead
            raise
        finally:
            active.cells[0] -= 1
            if token is not None:
                context.detach(token)
            outcome = method.outcomes.get(
                (id(scope.get("route")), status, error, scope.get(routes.PREFIX))
            ) or self._new_outcome(method, scope, status, error)
            elapsed = (ended or perf_counter()) - started
            cells = outcome.duration.cells
            cells[bisect_left(_DURATION, elapsed) + 1] += 1
            cells[0] += elapsed
            cells = outcome.response_size.cells
            cells[bisect_left(_SIZE, sent) + 1] += 1
            cells[0] += sent
            if received:
                self._record_request_size(outcome, received)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            self.pipeline.start()
            token = _attach(scope)
            try:
                await self._websocket(scope, receive, send)
            finally:
                context.detach(token)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.pipeline.start()

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
        route = scope.get("route")
        prefix = scope.get(routes.PREFIX)
        attributes = canonical(
            {
                "http.request.method": _known(scope),
                "http.route": routes.template(route, prefix or ""),
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
        method.outcomes[id(route), status, error, prefix] = outcome
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
