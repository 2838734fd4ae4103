"""The ASGI middleware: HTTP metrics, trace context, `/metrics`, lifespan.

Pure ASGI, outermost. A request costs two clock readings, one plain (not async) send wrapper
and a few additions into pre-aggregated cells; names, labels and views are worked out when
somebody collects. Exceptions are always raised on. Telemetry never decides what is answered.

Conventions: https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
"""

from __future__ import annotations

import asyncio
import logging
import os
from bisect import bisect_left
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar, Token
from time import perf_counter
from typing import TYPE_CHECKING, Any

from opentelemetry import context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from telemetry import catalog
from telemetry.asgi import frameworks, routes
from telemetry.asgi.websocket import WebSocketMetrics
from telemetry.export.exposition import MetricsEndpoint
from telemetry.metrics.points import Attributes, canonical
from telemetry.metrics.registry import Cells, Instrument
from telemetry.system.threads import in_thread

if TYPE_CHECKING:
    from telemetry.export.pipeline import Pipeline

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

_log = logging.getLogger(__name__)
_CACHE_LIMIT = 10_000  # series are limited per instrument; this bounds the keys that overflow
_DURATION = catalog.HTTP_SERVER_REQUEST_DURATION.buckets
_QUICK = _DURATION[0]  # most requests end in the first bucket, which needs no search
# Whole numbers compare twice as fast as with the catalog's floats.
_SIZE = tuple(int(bound) for bound in catalog.HTTP_SERVER_REQUEST_BODY_SIZE.buckets)
_NOTE = routes.NOTE
_propagator = TraceContextTextMapPropagator()
# The OpenTelemetry context around a request whose own is current, None outside of those. A
# server begins a pipelined request while it sends the answer before, in a copy of that one's
# context: what is current there is another request's.
_outside: ContextVar[context.Context | None] = ContextVar("telemetry-outside", default=None)


class _Method:
    """What is kept for one method and scheme."""

    __slots__ = ("active", "known", "metrics_paths", "outcomes")

    def __init__(self, active: Cells, metrics_paths: tuple[str, ...]) -> None:
        self.active = active
        self.metrics_paths = metrics_paths
        self.outcomes: dict[str, dict[int | tuple[int, str], dict[int, _Outcome]]] = {}
        """By what the routers noted, by status (and error), by the route's id: three look-ups
        by small keys are quicker than one by a tuple of them."""
        self.known = 0


class _Outcome:
    """Where one kind of outcome is counted. Holds its route: it is found by the route's id,
    which must not be another's meanwhile."""

    __slots__ = ("attributes", "duration", "request_size", "response_size", "route")

    def __init__(
        self, attributes: Attributes, route: Any, duration: Cells, response_size: Cells
    ) -> None:
        self.attributes = attributes
        self.route = route
        self.duration = duration
        self.response_size = response_size
        self.request_size: Cells | None = None


class _Incoming:
    """What is seen of one request as it comes in. Of its own, not of the middleware: several
    requests are open at once."""

    __slots__ = ("gone_at", "received", "server_receive")

    server_receive: Receive
    received: int
    gone_at: float
    """When the app was told that the client is gone, 0 while it is there."""

    async def receive(self) -> Message:
        message = await self.server_receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
        elif not self.gone_at:
            self.gone_at = perf_counter()
        return message


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
        self._metrics_path = metrics_path
        self._endpoint = MetricsEndpoint(pipeline.page.render)
        registry = pipeline.registry
        self._duration = registry.instrument(catalog.HTTP_SERVER_REQUEST_DURATION)
        self._response_size = registry.instrument(catalog.HTTP_SERVER_RESPONSE_BODY_SIZE)
        self._request_size = registry.instrument(catalog.HTTP_SERVER_REQUEST_BODY_SIZE)
        self._active_requests = registry.instrument(catalog.HTTP_SERVER_ACTIVE_REQUESTS)
        self._websocket = WebSocketMetrics(app, registry)
        self._has_spans = bool(pipeline.settings.traces_exporters)
        self._methods: dict[str, dict[str, _Method]] = {}
        registry.resets.append(self._methods.clear)
        frameworks.watch()

    def __getattr__(self, name: str) -> Any:
        # `app.state`, `app.routes`, `app.add_route` go on working after `app = instrument(app)`.
        if name == "app":
            raise AttributeError(name)
        return getattr(self.app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _NOTE in scope:
            await self._other(scope, receive, send)
            return
        started = perf_counter()
        try:
            method = self._methods[scope["scheme"]][scope["method"]]
        except KeyError:
            method = self._new_method(scope)
        if scope["path"] in method.metrics_paths:
            await self._endpoint(scope, receive, send)
            return
        scope[_NOTE] = ""
        active = method.active
        active[0] += 1.0
        attached = None
        for name, _ in scope["headers"]:
            if name == b"traceparent":
                attached = _attach(scope)
                break
        else:
            if self._has_spans or _outside.get() is not None:
                attached = _attach(scope)
        incoming = _Incoming()
        incoming.server_receive = receive
        incoming.received = 0
        incoming.gone_at = 0.0
        status = sent = 0
        ended = 0.0

        # Not async: it returns the server's own coroutine, which costs no further frame.
        def observed_send(message: Message) -> Awaitable[None]:
            nonlocal status, sent, ended
            kind = message["type"]
            if kind == "http.response.body":
                try:
                    sent += len(message["body"])
                except KeyError:
                    pass  # an empty one
                if not message.get("more_body") and not ended:
                    # The clock stops here, not after background tasks.
                    ended = perf_counter()
            elif kind == "http.response.start":
                status = message["status"]
            elif kind == "http.response.pathsend":
                sent = _file_size(message["path"])
                ended = perf_counter()
            return send(message)

        error = ""
        try:
            await self.app(scope, incoming.receive, observed_send)
            if not ended or incoming.gone_at:
                status, error = _left(status, ended, incoming.gone_at)
        except BaseException as exc:
            status, error = _raised(exc, status, ended, incoming.gone_at)
            raise
        finally:
            active[0] -= 1.0
            if attached is not None:
                _detach(attached)
            how = (status, error) if error else status
            try:
                outcome = method.outcomes[scope[_NOTE]][how][id(scope.get("route"))]
            except KeyError:
                try:
                    outcome = self._new_outcome(method, scope, status, error)
                except Exception:
                    # Whatever a route of the app's own making does when asked for its path.
                    outcome = _uncounted(self.pipeline)
            elapsed = (ended or perf_counter()) - started
            cells = outcome.duration
            cells[1 if elapsed <= _QUICK else bisect_left(_DURATION, elapsed) + 1] += 1.0
            cells[0] += elapsed
            cells = outcome.response_size
            cells[bisect_left(_SIZE, sent) + 1] += 1.0
            cells[0] += sent
            if incoming.received:
                self._record_request_size(outcome, incoming.received)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in ("http", "websocket", "lifespan"):
            await self.app(scope, receive, send)
        elif _NOTE in scope:
            # Instrumented twice, by code and by `telemetry run`, say: the outer one counts.
            if kind == "http" and scope["path"] in self._metrics_paths(scope):
                await self._endpoint(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        elif kind == "websocket":
            self.pipeline.start()
            scope[_NOTE] = ""
            attached = _attach(scope)
            try:
                await self._websocket(scope, receive, send)
            finally:
                _detach(attached)
        else:
            scope[_NOTE] = ""
            await self._lifespan(scope, receive, send)

    def _metrics_paths(self, scope: Scope) -> tuple[str, ...]:
        if not self._metrics_path:
            return ()
        # A server's root path is part of the path (ASGI 3.0); of old servers it isn't.
        return self._metrics_path, scope.get("root_path", "") + self._metrics_path

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.pipeline.start()
        self._methods.clear()  # a lifespan before this one ended its series of open requests

        async def flushed_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                # The server may exit the moment it hears this, without running atexit.
                await in_thread(self.pipeline.finish)
            await send(message)

        await self.app(scope, receive, flushed_send)

    def _new_method(self, scope: Scope) -> _Method:
        self.pipeline.start()
        scheme, name = scope.get("scheme", "http"), scope["method"]
        methods = self._methods.setdefault(scheme, {})
        if name in methods:  # a server that gives no scheme
            return methods[name]
        if len(methods) >= _CACHE_LIMIT:
            methods.clear()
        attributes = {"http.request.method": _known(name), "url.scheme": scheme}
        active = self._active_requests.at(attributes).cells
        method = methods[name] = _Method(active, self._metrics_paths(scope))
        return method

    def _new_outcome(self, method: _Method, scope: Scope, status: int, error: str) -> _Outcome:
        route, note = scope.get("route"), scope[_NOTE]
        attributes = canonical(
            {
                "http.request.method": _known(scope["method"]),
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
            _cells(self._duration, attributes),
            _cells(self._response_size, attributes),
        )
        if method.known >= _CACHE_LIMIT:
            method.outcomes.clear()
            method.known = 0
        method.known += 1
        how = (status, error) if error else status
        method.outcomes.setdefault(note, {}).setdefault(how, {})[id(route)] = outcome
        return outcome

    def _record_request_size(self, outcome: _Outcome, size: int) -> None:
        cells = outcome.request_size
        if cells is None:
            cells = outcome.request_size = _cells(self._request_size, outcome.attributes)
        cells[bisect_left(_SIZE, size) + 1] += 1.0
        cells[0] += size


def _known(method: str) -> str:
    return method if method in METHODS else "_OTHER"


def _cells(instrument: Instrument, attributes: Attributes) -> Cells:
    return instrument.at(dict(attributes)).cells


def _uncounted(pipeline: Pipeline) -> _Outcome:
    _log.exception("telemetry: a request could not be counted")
    pipeline.registry.dropped("metrics", "not_counted")
    return _Outcome((), None, [0.0] * (len(_DURATION) + 2), [0.0] * (len(_SIZE) + 2))


def _left(status: int, ended: float, gone_at: float) -> tuple[int, str]:
    """Status and error where the app returned without having given the client all of its
    answer, or the client went away meanwhile."""
    if gone_at and not 0 < ended <= gone_at:
        return _heard(status), CLIENT_GONE
    if ended:
        return status, ""  # it went away once it had everything
    return status or 500, INCOMPLETE  # 500: what the server answers in the app's stead


def _raised(error: BaseException, status: int, ended: float, gone_at: float) -> tuple[int, str]:
    """Status and error where the app raised ``error``."""
    if gone_at and not 0 < ended <= gone_at:
        return _heard(status), CLIENT_GONE
    if ended and status < 500:
        # What fails in the background after a good answer doesn't make it a bad one.
        return status, ""
    if isinstance(error, asyncio.CancelledError) or type(error).__name__ == "Cancelled":  # trio's
        return status, "" if ended else CANCELLED
    if not ended and _says_gone(error):
        return _heard(status), CLIENT_GONE
    return status or 500, type(error).__qualname__


def _heard(status: int) -> int:
    """The status that a client heard before it went: not the 500 that a framework makes of its
    going, which nobody hears and which is no fault of the app's."""
    return status if status < 500 else 0


def _says_gone(error: BaseException) -> bool:
    """Whether an exception tells that the client went away: a framework's own, or a server's
    from ``send`` (ASGI 2.4). Not any ConnectionError: a back end that is gone raises those."""
    return type(error).__name__ in ("ClientDisconnect", "ClientDisconnected", "RequestAborted")


def _attach(scope: Scope) -> tuple[Token[context.Context | None], Any]:
    """Make the caller's trace the current one, so that logs carry its id without any span; none
    where the caller gives none. Undone by `_detach`."""
    outside = _outside.get()
    if outside is None:
        outside = context.get_current()
    carrier = {}
    for name, value in scope["headers"]:
        if name in (b"traceparent", b"tracestate"):
            carrier[name.decode("latin-1")] = value.decode("latin-1")
    return _outside.set(outside), context.attach(_propagator.extract(carrier, outside))


def _detach(attached: tuple[Token[context.Context | None], Any]) -> None:
    token, other = attached
    context.detach(other)
    try:
        _outside.reset(token)
    except ValueError:
        pass  # a request that was left open, ended by the garbage collector in another context


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
