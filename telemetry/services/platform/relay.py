"""How containers reach the collector and the proxy, which listen on this machine's loopback only.

One listener on the gateway address of the platform's network, in the platform's own process:

    /otlp/v1/{metrics,logs,traces}   with a container's own token, to the collector, which is told
                                     whose it was: nobody sends in another's name
    /proxy/v1/…, /proxy/api/calls/…  to the proxy, which wants a key; its admin API stays inside

The address exists only once Docker has made the network, which may be long after the collector
and the proxy have started, so they can't listen there themselves.
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
HANDLE_HEADER = "x-telemetry-handle"  # as collector/config.yaml looks for it
# No part may begin with a dot: v1/../api/keys must not lead out of here.
_PROXY_PATHS = re.compile(r"v1(/[\w:@~-][\w.:@~-]*)+|api/calls/[\w-]+", re.ASCII)
# https://datatracker.ietf.org/doc/html/rfc9110#section-7.6.1
_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_HOP_BY_HOP |= {"host", "proxy-authenticate", "proxy-authorization"}
_log = logging.getLogger(__name__)


class Relay:
    """Listens where containers call.

    Args:
        settings: where to listen, and where to pass on to.
        store: which handles have a container.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        given = settings.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")
        self._otlp_headers = dict(parse_env_headers(given, liberal=True))
        self._listening: set[str] = set()
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Be ready to listen; call in the event loop that serves."""
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            connector=aiohttp.TCPConnector(limit=0),
        )
        app = web.Application()
        app.router.add_post("/otlp/v1/{signal:metrics|logs|traces}", self._otlp)
        app.router.add_route("*", "/proxy/{path:.*}", self._proxy)
        # A client that goes away mid-stream must be noticed by the proxy, which charges for it.
        # Bodies are passed on as they came: inflated, they would belie their content-encoding.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, auto_decompress=False
        )
        await self._runner.setup()

    async def listen(self, gateway: str) -> str:
        """Listen on an address of this machine, if not yet.

        Returns:
            Host and port by which containers find it.

        Raises:
            HTTPError: it can't be listened on.
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
                        f"containers could not send anything: {address}:{port} can't be listened "
                        f"on: {error.strerror or error}",
                        "set TELEMETRY_PLATFORM_RELAY_PORT to a free port; where Docker runs on "
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
                {"message": "wanted: authorization: Bearer and the token this container was given"},
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
            return _away("collector", error)

    async def _proxy(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        if not _PROXY_PATHS.fullmatch(path):
            return web.json_response(error_body("not for containers"), status=404)
        response: web.StreamResponse | None = None
        try:
            async with self._session.request(
                request.method,
                f"{self._settings.proxy_url}/{path}",
                params=request.query,
                headers=_passed(request.headers),
                data=request.content if request.can_read_body else None,
                allow_redirects=False,
            ) as answer:
                response = web.StreamResponse(status=answer.status, headers=_passed(answer.headers))
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except (aiohttp.ClientError, TimeoutError) as error:
            if response is not None:
                raise  # cut off, so that what has come isn't taken for all
            return _away("proxy", error)

    def _known(self, handle: str) -> bool:
        record = self._store.get(handle)
        return record is not None and record.provisioned and record.phase != "removing"


def _only(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: headers[name] for name in names if name in headers}


def _passed(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]


def _away(what: str, error: Exception) -> web.Response:
    _log.warning("containers' calls can't be passed on: the %s doesn't answer: %s", what, error)
    return web.json_response(
        error_body(f"the {what} doesn't answer", "try again"),
        status=503,
        headers={"retry-after": str(RETRY_AFTER_S)},
    )
