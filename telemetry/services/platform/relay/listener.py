"""Accept containers' connections: so many of one address, so many in all.

A container has one address on the platform's network. A connection beyond a limit is closed before
its first byte is read, so that a container can exhaust neither the process' files, which the admin
API needs, nor another container's share.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from telemetry import catalog, metrics
from telemetry.services.platform.relay.notices import Notices, ServerLog

# Open files kept for the admin API, Docker, logs and the databases. Chosen by judgement.
RESERVED_FILES = 256
# Of one connection: its own, one to the Collector or the proxy, and an idle one to the other.
FILES_PER_CONNECTION = 3
MAX_CONNECTIONS = 4096
BACKLOG = 128
# For a request's headers, and between requests. Longer than the minute at which SDKs export.
IDLE_S = 75
# For the rest of a refused body, so that a client that is still sending sees the answer.
LINGER_S = 5
RETRY_ACCEPT_S = 0.1

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def max_connections() -> int:
    """Return how many connections this process' limit of open files allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(16, min(MAX_CONNECTIONS, (soft - RESERVED_FILES) // FILES_PER_CONNECTION))


class Listener:
    """An HTTP server with limits on connections.

    Args:
        handler: answers requests.
        per_address: connections that one address may have open; None for as many as in all.
    """

    def __init__(self, handler: Handler, per_address: int | None) -> None:
        log = logging.getLogger(__name__)
        # The proxy must notice when a client disconnects mid-stream, since it charges for the
        # call: hence the cancellation. Bodies are left compressed, as their content-encoding says.
        self._server = _Server(
            handler,
            handler_cancellation=True,
            access_log=None,
            logger=ServerLog(log),
            auto_decompress=False,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
        )
        self._runner = web.ServerRunner(self._server)
        self._in_all = max_connections()
        self._per_address = min(per_address or self._in_all, self._in_all)
        self._accepting: list[asyncio.Task[None]] = []
        self._refused = metrics.counter(catalog.PLATFORM_RELAY_CONNECTIONS_REFUSED)
        self._notices = Notices(log)

    @property
    def open_connections(self) -> int:
        """Connections open now."""
        return self._server.open

    async def open(self) -> None:
        """Prepare to listen; call it in the event loop that serves."""
        await self._runner.setup()

    async def listen(self, address: str, port: int) -> None:
        """Listen on an address of this machine.

        Raises:
            OSError: the address is not one of this machine, or the port is taken.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening = socket.create_server((address, port), family=family, backlog=BACKLOG)
        listening.setblocking(False)
        self._accepting.append(asyncio.create_task(self._accept(listening)))

    async def close(self) -> None:
        """Stop listening, and let requests in flight finish."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        await self._runner.cleanup()

    async def _accept(self, listening: socket.socket) -> None:
        # One at a time, rather than by `create_server`, which accepts a burst before it asks.
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    accepted, peer = await loop.sock_accept(listening)
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        self._refuse("files", "this machine")
                        await asyncio.sleep(RETRY_ACCEPT_S)
                    continue
                if reason := self._limit_reached(peer[0]):
                    accepted.close()
                    self._refuse(reason, peer[0])
                    continue
                with suppress(OSError):  # the client is gone already
                    await loop.connect_accepted_socket(self._server, accepted)

    def _limit_reached(self, address: str) -> Literal["", "address", "all"]:
        if self._server.by_address[address] >= self._per_address:
            return "address"
        return "all" if self._server.open >= self._in_all else ""

    def _refuse(self, reason: Literal["address", "all", "files"], address: str) -> None:
        self._refused.add(1, {"reason": reason})
        said = {
            "address": f"it has {self._per_address} open, the most that one container may have "
            "(TELEMETRY_PLATFORM_RELAY_CONNECTIONS)",
            "all": f"{self._in_all} are open, the most that this process' limit of open files "
            "allows; raise the limit (ulimit -n), or find out which container has so many",
            "files": "the process has no file left; raise its limit of open files (ulimit -n)",
        }[reason]
        self._notices.warn(
            (reason, address), f"a connection of {address} to the relay was closed: {said}"
        )


class _Server(web.Server):
    """Counts its connections by address."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        super().__init__(handler, **options)
        self.by_address: Counter[str] = Counter()
        self.open = 0
        self._gauge = metrics.gauge(catalog.PLATFORM_RELAY_CONNECTIONS)
        self._gauge.set(0)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._count(handler, 1)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._count(handler, -1)

    def _count(self, handler: RequestHandler, n: int) -> None:
        address = handler.peername[0] if handler.peername else ""
        self.by_address[address] += n
        if not self.by_address[address]:
            del self.by_address[address]
        self.open += n
        self._gauge.set(self.open)
