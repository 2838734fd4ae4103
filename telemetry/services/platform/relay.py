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
import logging
import re
from collections.abc import Mapping

import aiohttp
from aiohttp import web
from opentelemetry.util.re import parse_env_headers

from telemetry.services.http import HTTPError, bearer_token, error_body, read_body
from telemetry.services.platform import relay_tokens
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.store import Store

OTLP_BYTES = 16 << 20  # of one export; chosen by judgement, not measured
RETRY_AFTER_S = 5
HANDLE_HEADER = "x-telemetry-handle"  # read by collector/config.yaml
# No part may begin with a dot: v1/../api/keys must not match.
_PROXY_PATHS = re.compile(r"v1(/[\w:@~-][\w.:@~-]*)+|api/calls/[\w-]+", re.ASCII)
# https://datatracker.ietf.org/doc/html/rfc9110#section-7.6.1
_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_HOP_BY_HOP |= {"host", "proxy-authenticate", "proxy-authorization"}
_log = logging.getLogger(__name__)


class Relay:
    """Listens for containers.

    Args:
        settings: where to listen, and where to forward to.
        store: has the handles with a container.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        given = settings.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")
        self._otlp_headers = dict(parse_env_headers(given, liberal=True))
        self._listening: set[str] = set()
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Prepare to listen; call it in the event loop that serves."""
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            connector=aiohttp.TCPConnector(limit=0),
        )
        app = web.Application()
        app.router.add_post("/otlp/v1/{signal:metrics|logs|traces}", self._otlp)
        app.router.add_route("*", "/proxy/{path:.*}", self._proxy)
        # The proxy must notice when a client disconnects mid-stream, since it charges for the call.
        # Bodies are forwarded compressed, as their content-encoding says.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, auto_decompress=False
        )
        await self._runner.setup()

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
                    await web.TCPSite(self._runner, address, port).start()
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

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()
        await self._session.close()

    async def _otlp(self, request: web.Request) -> web.StreamResponse:
        token = bearer_token(request.headers.get("authorization", ""))
        handle = relay_tokens.handle_of(self._settings.otlp_token, token)
        if not handle or not self._known(handle):
            return web.json_response(
                {"message": "send Authorization: Bearer and the token of this container"},
                status=401,
            )
        try:
            body = await read_body(request.content.iter_any(), OTLP_BYTES)
        except HTTPError as error:
            return web.json_response({"message": error.message}, status=error.status)
        headers = _only(request.headers, "content-type", "content-encoding", "user-agent")
        headers |= self._otlp_headers | {HANDLE_HEADER: handle}
        url = f"{self._settings.otlp_url}/v1/{request.match_info['signal']}"
        try:
            async with self._session.post(url, data=body, headers=headers) as answer:
                return web.Response(
                    body=await answer.read(),
                    status=answer.status,
                    headers=_only(answer.headers, "content-type", "retry-after"),
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            return _unavailable("Collector", error)

    async def _proxy(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        if not _PROXY_PATHS.fullmatch(path):
            return web.json_response(error_body("the relay does not forward this path"), status=404)
        response: web.StreamResponse | None = None
        try:
            async with self._session.request(
                request.method,
                f"{self._settings.proxy_url}/{path}",
                params=request.query,
                headers=_forwarded(request.headers),
                data=request.content if request.can_read_body else None,
                allow_redirects=False,
            ) as answer:
                response = web.StreamResponse(
                    status=answer.status, headers=_forwarded(answer.headers)
                )
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, TimeoutError) as error:
            if response is not None:
                raise  # break the connection, so that the client sees the answer is incomplete
            return _unavailable("proxy", error)

    def _known(self, handle: str) -> bool:
        record = self._store.get(handle)
        return record is not None and record.provisioned and record.phase != "removing"


def _only(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


def _forwarded(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]


def _unavailable(what: str, error: Exception) -> web.Response:
    _log.warning("containers' requests can't be forwarded: the %s does not answer: %s", what, error)
    return web.json_response(
        error_body(f"the {what} does not answer", "try again"),
        status=503,
        headers={"retry-after": str(RETRY_AFTER_S)},
    )
