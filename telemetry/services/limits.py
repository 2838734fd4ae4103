"""Limits of what one client can hold, for uvicorn: headers, time, connections, unread answers.

uvicorn's parser keeps a request's head in memory whatever its size, and waits for the rest of a
request without a limit.
"""

from __future__ import annotations

import asyncio
import json
import resource
from typing import Any
from weakref import WeakKeyDictionary

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from telemetry import catalog, metrics
from telemetry.services.http import error_body

# Chosen by judgement, not measured: far above what real clients need.
HEAD_BYTES = 64 << 10  # of a request's line and headers, trailers included
HEAD_S = 20.0  # for a whole head, from the connection's beginning
BODY_IDLE_S = 60.0  # between two parts of a body
UNREAD_S = 120.0  # in which a client that has an answer to read reads none of it
UNREAD_BYTES = 4 << 20  # of a WebSocket, pongs included
SWEEP_S = 5.0  # how exactly these times are kept


def connections_per_address() -> int:
    """Return how many connections one client address may hold: at most half of this process's
    files, so that others can still connect."""
    return min(4000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class _Connections:
    """The open connections of one server, checked at an interval."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[HTTPProtocol | WebSocketProtocol, str] = {}
        self._by_address: dict[str, int] = {}
        self._limit = connections_per_address()
        self._timer: asyncio.TimerHandle | None = None
        self._refused = metrics.counter(catalog.SERVICES_REQUESTS_REFUSED)
        for reason in ("connections", "headers", "slow"):
            self.count(reason, 0)

    def count(self, reason: str, n: int = 1) -> None:
        self._refused.add(n, {"reason": reason})

    def enter(self, connection: HTTPProtocol | WebSocketProtocol) -> bool:
        """Add a connection; False if its address has too many."""
        address = connection.client[0] if connection.client else ""
        n = self._by_address.get(address, 0)
        if n >= self._limit:
            self.count("connections")
            return False
        self._by_address[address] = n + 1
        self._open[connection] = address
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_S, self._sweep)
        return True

    def leave(self, connection: HTTPProtocol | WebSocketProtocol) -> None:
        """Remove a connection; ignored if it is gone already."""
        address = self._open.pop(connection, None)
        if address is None:
            return
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in tuple(self._open):
            if connection.is_slow(now):
                self.count("slow")
                connection.cut()
        self._timer = self._loop.call_later(SWEEP_S, self._sweep) if self._open else None


_of_server: WeakKeyDictionary[ServerState, _Connections] = WeakKeyDictionary()


def _connections(state: ServerState, loop: asyncio.AbstractEventLoop) -> _Connections:
    found = _of_server.get(state)
    if found is None:
        found = _of_server[state] = _Connections(loop)
    return found


class _Unread:
    """Watches whether a client reads what is written to it.

    Args:
        transport: the client's connection.
    """

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self._transport = transport
        self._size = 0
        self._since = now

    def is_stuck(self, now: float) -> bool:
        """Tell whether bytes are waiting, and the client has read none for too long."""
        size = self._transport.get_write_buffer_size()
        if not size or size < self._size:
            self._since = now
        self._size = size
        return now - self._since > UNREAD_S


class HTTPProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        now = self.loop.time()
        self._unread = _Unread(transport, now)
        self._head_since = now  # 0 while no head is awaited
        self._heard = now
        self._unparsed = 0  # bytes since the parser last completed a part of the request
        self._progress = False
        self._chunk = 0
        self._is_head_too_large = False
        self._connections = _connections(self.server_state, self.loop)
        if not self._connections.enter(self):
            self._reply(503, "this address has too many connections", "close some of them")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._connections.leave(self)  # the WebSocket's protocol enters instead
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        if not self._head_since and (self.cycle is None or self.cycle.response_complete):
            self._head_since = self._heard
        self._progress = False
        self._chunk = len(data)
        super().data_received(data)
        if self._progress:
            self._unparsed = 0
            return
        self._unparsed += len(data)
        if self._unparsed > HEAD_BYTES and not self.transport.is_closing():
            self._refuse_head()

    def on_headers_complete(self) -> None:
        self._head_since = 0.0
        self._progress = True
        # Counting the headers is only needed if so much has arrived; a part of it may be the body.
        if self._unparsed + self._chunk > HEAD_BYTES:
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > HEAD_BYTES:
                self._is_head_too_large = True
                raise ValueError("the head is too large")  # makes the parser call the next method
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if self._is_head_too_large:
            self._refuse_head()
        elif not self.transport.is_closing():
            self._reply(400, "the request is not valid HTTP", "")

    def on_body(self, body: bytes) -> None:
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progress = True
        super().on_message_complete()

    def is_slow(self, now: float) -> bool:
        """Tell whether the client has kept the service waiting for too long."""
        if self._head_since:
            return now - self._head_since > HEAD_S or self._unread.is_stuck(now)
        cycle = self.cycle
        if self.flow.read_paused or cycle is None or cycle.waiting_for_100_continue:
            self._heard = now  # it is the service that makes the client wait
        elif cycle.more_body and not cycle.response_complete and now - self._heard > BODY_IDLE_S:
            return True
        return self._unread.is_stuck(now)

    def cut(self) -> None:
        """End the connection of a slow client."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # closing it would wait for the client to read
        else:
            self._reply(408, "the request did not arrive in time", "send it again")

    def _refuse_head(self) -> None:
        self._connections.count("headers")
        remedy = f"send at most {HEAD_BYTES} bytes"
        self._reply(431, "the request's headers are too large", remedy)

    def _reply(self, status: int, message: str, remedy: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                self.transport.abort()
                return
            self.cycle.disconnected = True  # what the app would still send
            self.cycle.message_event.set()
        body = json.dumps(error_body(message, remedy)).encode()
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol with limits."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._connections = _connections(server_state, self.loop)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._unread = _Unread(self.transport, self.loop.time())
        self._connections.enter(self)  # in the place of its HTTP connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # A pong is written for each ping, whether or not the client reads.
        if self.transport.get_write_buffer_size() > UNREAD_BYTES:
            self._connections.count("slow")
            self.transport.abort()

    def is_slow(self, now: float) -> bool:
        """Tell whether the client reads nothing of what was sent to it."""
        return self._unread.is_stuck(now)

    def cut(self) -> None:
        """End the connection of a slow client."""
        self.transport.abort()
