"""Forward containers' requests to the Collector and the proxy, which listen on loopback only.

The relay listens on the gateway address of the platform's network, in the platform's process:

    /otlp/v1/{metrics,logs,traces}   needs a container's own token; forwarded to the Collector
                                     with the token's handle, so no container can pose as another
    /proxy/v1/…, /proxy/api/calls/…  forwarded to the proxy, which needs a key; its admin API is
                                     not forwarded

The address exists only once Docker has created the network. This may be long after the Collector
and the proxy have started, so they can't listen on it themselves.
"""

from __future__ import annotations

import asyncio
import re

import aiohttp
from aiohttp import web

from telemetry.services.http import HTTPError, error_body
from telemetry.services.platform.relay.listener import Listener
from telemetry.services.platform.relay.model_calls import PATHS, ModelCalls
from telemetry.services.platform.relay.otlp import Otlp
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.store import Store

_OTLP_PATHS = re.compile(r"/otlp/v1/(metrics|logs|traces)")


class Relay:
    """Listens for containers.

    Args:
        settings: where to listen, and where to forward to.
        store: has the handles with a container.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._listening: set[str] = set()
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Prepare to listen; call it in the event loop that serves."""
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            connector=aiohttp.TCPConnector(limit=0),
        )
        self._otlp = Otlp(self._settings, self._store, self._session)
        self._model_calls = ModelCalls(self._settings.proxy_url, self._session)
        # With a host name, containers come through a forwarder, all from one address.
        per_address = None if self._settings.relay_host else self._settings.relay_connections
        self._listener = Listener(self._answer, per_address)
        await self._listener.open()

    async def listen(self, gateway: str) -> str:
        """Listen on an address of this machine, if not yet.

        Returns:
            Host and port by which containers reach it.

        Raises:
            HTTPError: the relay can't listen on it.
        """
        port, name = self._settings.relay_port, self._settings.relay_host
        address = "127.0.0.1" if name else gateway
        async with self._opening:
            if address not in self._listening:
                try:
                    await self._listener.listen(address, port)
                except OSError as error:
                    raise HTTPError(
                        503,
                        f"the relay can't listen on {address}:{port}: {error.strerror or error}",
                        "set TELEMETRY_PLATFORM_RELAY_PORT to a free port; if Docker runs on "
                        "another machine or in a virtual one, set TELEMETRY_PLATFORM_RELAY_HOST "
                        "to the name by which containers reach this one (host.docker.internal)",
                    ) from error
                self._listening.add(address)
        return f"{name or gateway}:{port}"

    def held_bytes(self) -> int:
        """Return how many bytes of containers' telemetry are in memory now."""
        return self._otlp.held_bytes()

    def forget_removed(self) -> None:
        """Forget containers that were removed; call it in the event loop that serves."""
        self._otlp.forget_removed()

    async def close(self) -> None:
        """Stop listening."""
        await self._listener.close()
        await self._session.close()
        self._otlp.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.path
        otlp, model_call = _OTLP_PATHS.fullmatch(path), PATHS.fullmatch(path)
        if otlp and request.method != "POST":
            return _error(405, f"{request.method} is not allowed", {"allow": "POST"})
        if not otlp and not model_call:
            return _error(404, "the relay does not forward this path")
        if request.headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # it is not part of the response
        if otlp:
            return await self._otlp.export(request, otlp[1])
        assert model_call is not None
        return await self._model_calls.forward(request, model_call[1])


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(error_body(message), status=status, headers=headers)
