"""The command `telemetry open`: show the page of an engine that answers the stack only.

A small server on a free port of loopback forwards to the engine with the stack's certificate, until
the command is stopped. Its paths begin with a secret, not with a cookie: a browser sends cookies of
127.0.0.1 to every port.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import tempfile
import webbrowser
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.system.atomic_files import replace_file
from telemetry.system.terminal import Terminal
from telemetry.system.tls import client_context

_SAME_SITE = (None, "none", "same-origin")
# https://datatracker.ietf.org/doc/html/rfc9110#section-7.6.1, and what aiohttp has decoded.
_DROPPED = {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-encoding"}
_DROPPED |= {"content-length", "host", "accept-encoding"}


def open_page(settings: StackSettings, name: str) -> int:
    """Show an engine's page in the browser until Ctrl-C.

    Args:
        settings: the stack's settings.
        name: ``prometheus`` or ``alertmanager``.

    Raises:
        TelemetryError: the engine does not answer, or was built without its page.
    """
    try:
        asyncio.run(_serve(settings, name))
    except KeyboardInterrupt:
        pass
    return 0


async def _serve(settings: StackSettings, name: str) -> None:
    connector = aiohttp.TCPConnector(ssl=client_context(settings.tls))
    async with aiohttp.ClientSession(connector=connector) as session:
        await _check(session, settings.urls[name], name)
        front = Front(settings.urls[name], session)
        runner = web.AppRunner(front.app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            address = front.first_address(runner.addresses[0][1])
            Terminal().print(f"{name} is at {address}, which works once; stop with Ctrl-C")
            # Other users can read a browser's command line, and would be faster than it.
            with tempfile.TemporaryDirectory(prefix="open", dir=settings.home) as folder:
                file = Path(folder) / "page.html"
                replace_file(file, f'<meta http-equiv="refresh" content="0;url={address}">')
                await asyncio.to_thread(webbrowser.open, file.as_uri())
                await asyncio.Event().wait()
        finally:
            await runner.cleanup()


async def _check(session: aiohttp.ClientSession, url: str, name: str) -> None:
    try:
        async with session.get(f"{url}/") as answer:
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise TelemetryError(
            f"{name} at {url} does not answer: {error}",
            remedy="check `telemetry status`; Alertmanager runs only if Prometheus evaluates",
            exit_code=69,  # EX_UNAVAILABLE
        ) from error
    if status >= 400:
        raise TelemetryError(
            f"this {name} has no page: it was built from its Go module, which doesn't contain it",
            remedy="`telemetry up --engines release` fetches the official release, which has one",
            exit_code=69,
        )


class Front:
    """Forwards requests whose path begins with the secret.

    Args:
        url: the engine's address.
        session: shows the stack's certificate.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self._once = secrets.token_urlsafe(32)
        self._secret = secrets.token_urlsafe(32)
        self._host = ""
        self.app = web.Application(client_max_size=1 << 20)
        self.app.router.add_get("/once/{given}", self._enter)
        self.app.router.add_route("*", "/{given}/{path:.*}", self._forward)

    def first_address(self, port: int) -> str:
        """Return the address to open, for a server that listens on this port of loopback."""
        self._host = f"127.0.0.1:{port}"
        return f"http://{self._host}/once/{self._once}"

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        if not self._once or not _same(request.match_info["given"], self._once):
            raise web.HTTPForbidden(text="this address was used already")
        self._once = ""
        raise web.HTTPSeeOther(f"/{self._secret}/")

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if not _same(request.match_info["given"], self._secret) or request.host != self._host:
            raise web.HTTPForbidden(text="the address is wrong")
        # The first request comes from a file, which browsers take for another site.
        is_navigation = (
            request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        )
        if request.headers.get("sec-fetch-site") not in _SAME_SITE and not is_navigation:
            raise web.HTTPForbidden(text="pages of other sites may not call this")
        path = request.raw_path.removeprefix(f"/{self._secret}")
        async with self._session.request(
            request.method,
            URL(self._url + path, encoded=True),
            headers=[(k, v) for k, v in request.headers.items() if k.lower() not in _DROPPED],
            data=await request.read(),
            allow_redirects=False,
        ) as answer:
            headers = [(k, v) for k, v in answer.headers.items() if k.lower() not in _DROPPED]
            # Without a Referer no other server learns the secret.
            headers += [("referrer-policy", "no-referrer"), ("x-frame-options", "DENY")]
            if location := answer.headers.get("location"):
                headers = [(k, v) for k, v in headers if k.lower() != "location"]
                headers.append(("location", f"/{self._secret}{URL(location).raw_path_qs}"))
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())
