"""The ASGI middleware: HTTP metrics, trace context, `/metrics`, lifespan.

It is pure ASGI and outermost. A request costs two clock readings, one plain (not async) send
wrapper and a few additions to pre-aggregated cells. Names, labels and views are computed at
collection. Exceptions are always re-raised. The app's response is never changed.

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
from telemetry.logs.failed_requests import note_trace
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
CLIENT_DISCONNECTED = "client_disconnected"
CANCELLED = "cancelled"
INCOMPLETE = "incomplete_response"

_log = logging.getLogger(__name__)
_CACHE_LIMIT = 10_000  # instruments limit their series; this limits cached keys that overflow
_DURATION = catalog.HTTP_SERVER_REQUEST_DURATION.buckets
_QUICK = _DURATION[0]  # most requests end in the first bucket, which needs no search
# Integers: comparing an integer with the catalog's floats takes twice as long.
_SIZE = tuple(int(bound) for bound in catalog.HTTP_SERVER_REQUEST_BODY_SIZE.buckets)
_NOTE = routes.NOTE
_propagator = TraceContextTextMapPropagator()
# The OpenTelemetry context outside of the current request; None outside of requests. A server
# starts a pipelined request while it sends the previous response, in a copy of that request's
# context. The current context there is the previous request's.
_outside: ContextVar[context.Context | None] = ContextVar("telemetry-outside", default=None)


class _Method:
    """Cached cells and outcomes of one method and scheme."""

    __slots__ = ("active", "known", "metrics_paths", "outcomes")

    def __init__(self, active: Cells, metrics_paths: tuple[str, ...]) -> None:
        self.active = active
        self.metrics_paths = metrics_paths
        self.outcomes: dict[str, dict[int | tuple[int, str], dict[int, _Outcome]]] = {}
        """By the routers' note, then by status (and error), then by the route's id. Three look-ups
        by small keys are faster than one by a tuple of them."""
        self.known = 0


class _Outcome:
    """Cells of requests with the same attributes.

    It keeps a reference to its route, because it is cached by the route's id: the id must not be
    reused for another route.
    """

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
    """What one request receives: body bytes and the client's disconnect."""

    __slots__ = ("disconnected_at", "received", "server_receive")

    server_receive: Receive
    received: int
    disconnected_at: float
    """When the app received the disconnect; 0 before that."""

    async def receive(self) -> Message:
        message = await self.server_receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
        elif not self.disconnected_at:
            self.disconnected_at = perf_counter()
        return message


class TelemetryMiddleware:
    """Wraps an ASGI app; see `telemetry.instrument`.

    Args:
        app: the app.
        pipeline: exports the metrics; started with the app.
        metrics_path: the path of the metrics page; "" for none.
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
        self._has_spans = bool(pipeline.settings.traces_exporters)
        self._websocket = WebSocketMetrics(app, registry, self._has_spans)
        self._methods: dict[str, dict[str, _Method]] = {}
        registry.resets.append(self._methods.clear)
        frameworks.watch()

    def __getattr__(self, name: str) -> Any:
        # `app.state`, `app.routes`, `app.add_route` still work after `app = instrument(app)`.
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
        incoming.disconnected_at = 0.0
        status = sent = 0
        ended = 0.0

        # Not async: it returns the server's own coroutine, which saves a frame.
        def observed_send(message: Message) -> Awaitable[None]:
            nonlocal status, sent, ended
            kind = message["type"]
            if kind == "http.response.body":
                try:
                    sent += len(message["body"])
                except KeyError:
                    pass  # an empty body
                if not message.get("more_body") and not ended:
                    # The duration ends here, not after background tasks.
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
            if not ended or incoming.disconnected_at:
                status, error = _result_of_return(status, ended, incoming.disconnected_at)
        except BaseException as exc:
            status, error = _result_of_error(exc, status, ended, incoming.disconnected_at)
            if not self._has_spans:  # otherwise the span has been noted
                note_trace(exc)
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
                    # A route class of the app may raise anything when its path is read.
                    outcome = _uncounted_outcome(self.pipeline)
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
            # Instrumented twice, e.g. by code and by `telemetry run`: the outer one counts.
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
        # The path includes the root path (ASGI 3.0), except with old servers.
        return self._metrics_path, scope.get("root_path", "") + self._metrics_path

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.pipeline.start()
        self._methods.clear()  # an earlier lifespan ended the cached series of active requests

        async def flushed_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                # The server may exit as soon as it gets this message, without running atexit.
                await in_thread(self.pipeline.finish)
            await send(message)

        await self.app(scope, receive, flushed_send)

    def _new_method(self, scope: Scope) -> _Method:
        self.pipeline.start()
        scheme, name = scope.get("scheme", "http"), scope["method"]
        methods = self._methods.setdefault(scheme, {})
        if name in methods:  # a server that sets no scheme
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
                # Conventions: the error type of a 5xx without an exception is its code.
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


def _uncounted_outcome(pipeline: Pipeline) -> _Outcome:
    _log.exception("telemetry: a request could not be counted")
    pipeline.registry.dropped("metrics", "not_counted")
    return _Outcome((), None, [0.0] * (len(_DURATION) + 2), [0.0] * (len(_SIZE) + 2))


def _result_of_return(status: int, ended: float, disconnected_at: float) -> tuple[int, str]:
    """Find status and error of an app that returned before the end of its response, or that
    received a disconnect."""
    if disconnected_at and not 0 < ended <= disconnected_at:
        return _status_before_disconnect(status), CLIENT_DISCONNECTED
    if ended:
        return status, ""  # the client disconnected after it had the whole response
    return status or 500, INCOMPLETE  # the server responds 500 for such an app


def _result_of_error(
    error: BaseException, status: int, ended: float, disconnected_at: float
) -> tuple[int, str]:
    """Find status and error of an app that raised ``error``."""
    if disconnected_at and not 0 < ended <= disconnected_at:
        return _status_before_disconnect(status), CLIENT_DISCONNECTED
    if ended and status < 500:
        # A background task that fails after a good response is no failure of the request.
        return status, ""
    if isinstance(error, asyncio.CancelledError) or type(error).__name__ == "Cancelled":  # trio's
        return status, "" if ended else CANCELLED
    if not ended and _is_disconnect(error):
        return _status_before_disconnect(status), CLIENT_DISCONNECTED
    return status or 500, type(error).__qualname__


def _status_before_disconnect(status: int) -> int:
    """Drop the 500 that a framework responds to a disconnect: the client never gets it, and it is
    not the app's error."""
    return status if status < 500 else 0


def _is_disconnect(error: BaseException) -> bool:
    """Check whether the client disconnected: such exceptions come from frameworks, or from a
    server's ``send`` (ASGI 2.4). Not every ConnectionError: a failing back end raises those."""
    return type(error).__name__ in ("ClientDisconnect", "ClientDisconnected", "RequestAborted")


def _attach(scope: Scope) -> tuple[Token[context.Context | None], Any]:
    """Make the caller's trace current, so that logs have its id without a span. If the caller
    sends no trace, none is current. `_detach` undoes it."""
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
        pass  # an unfinished request, ended by the garbage collector in another context


def _file_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
