"""Metrics of WebSocket connections: open ones, messages, durations.

There is no semantic convention for WebSockets; the names follow those for HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import perf_counter
from typing import Any

from telemetry import catalog
from telemetry.asgi import routes
from telemetry.logs.failed_requests import note_trace
from telemetry.metrics import BoundHistogram
from telemetry.metrics.registry import Registry

# Codes of RFC 6455, section 7.4.1 and the IANA registry. Codes of applications form one group.
_CLOSE_CODES = frozenset((*range(1000, 1004), *range(1005, 1016)))


class WebSocketMetrics:
    """Counts the WebSocket connections of an app.

    Args:
        app: the app.
        registry: has the series.
    """

    def __init__(self, app: Any, registry: Registry, has_spans: bool) -> None:
        self.app = app
        self._has_spans = has_spans
        self._active = registry.instrument(catalog.WEBSOCKET_SERVER_ACTIVE_CONNECTIONS)
        self._duration = registry.instrument(catalog.WEBSOCKET_SERVER_CONNECTION_DURATION)
        self._messages = registry.instrument(catalog.WEBSOCKET_SERVER_MESSAGES)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = perf_counter()
        scheme = scope.get("scheme", "ws")
        active = self._active.at({"url.scheme": scheme})
        messages: dict[str, Any] = {}
        open_ = False
        close_code = 0

        def count(direction: str) -> None:
            series = messages.get(direction)
            if series is None:
                # Once per connection: the router has matched before the first message.
                series = messages[direction] = self._messages.at(
                    {"http.route": routes.current(scope), "network.io.direction": direction}
                )
            series.cells[0] += 1

        def observed_send(message: Any) -> Awaitable[None]:
            nonlocal open_, close_code
            kind = message["type"]
            if kind == "websocket.send":
                count("transmit")
            elif kind == "websocket.accept" and not open_:
                open_ = True
                active.cells[0] += 1
            elif kind == "websocket.close" and not close_code:
                close_code = message.get("code", 1000)
            sent: Awaitable[None] = send(message)
            return sent

        async def observed_receive() -> Any:
            nonlocal close_code
            message = await receive()
            kind = message["type"]
            if kind == "websocket.receive":
                count("receive")
            elif kind == "websocket.disconnect" and not close_code:
                close_code = message.get("code", 1005)
            return message

        error = ""
        try:
            await self.app(scope, observed_receive, observed_send)
        except asyncio.CancelledError:
            error = "" if close_code else "cancelled"
            raise
        except BaseException as exc:
            error = type(exc).__qualname__
            if not self._has_spans:
                note_trace(exc)
            raise
        finally:
            if open_:
                active.cells[0] -= 1
            elapsed = perf_counter() - started
            self._record(scope, scheme, elapsed, close_code, error)

    def _record(self, scope: Any, scheme: str, elapsed: float, code: int, error: str) -> None:
        series = self._duration.at(
            {
                "http.route": routes.current(scope),
                "websocket.close.code": code if code in _CLOSE_CODES else "_OTHER" if code else "",
                "error.type": error,
                "url.scheme": scheme,
            }
        )
        BoundHistogram(series).record(elapsed)
