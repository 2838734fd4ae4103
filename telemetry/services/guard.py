"""The outermost layer of each service: known hosts, own pages, security headers, `/metrics`.

It is pure ASGI and sees every request and WebSocket before anything else does. For a client that
is not a browser it costs one dictionary of the headers and a few look-ups.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry import catalog, metrics
from telemetry.services.http import HTTPError, error_body, page_headers
from telemetry.services.login import Access, given_token

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_KNOWN_LIMIT = 1000  # cached values of Host; a client chooses the port in them
_REASONS = ("host", "origin")
_METRICS_NOTE = b"# The series are shown with Authorization: Bearer TELEMETRY_ADMIN_TOKEN.\n"

Headers = dict[bytes, bytes]
"""A request's headers by lower-case name; the last one of each."""


class Guard:
    """ASGI middleware around a whole service.

    Args:
        app: the instrumented service.
        hosts: names it answers for, beside loopback and the address a connection arrived at.
            Lower case, without port; IPv6 addresses in brackets.
        url: the configured base address of the service, which is known, too.
        origins: origins of further pages that may call it.
        has_pages: add the security headers to every answer.
        metrics_path: path of the metrics page; "" if there is none.
        metrics_access: who may see the metrics.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Iterable[str],
        url: str,
        origins: Iterable[str] = (),
        has_pages: bool,
        metrics_path: str,
        metrics_access: Access,
    ) -> None:
        self.app = app
        own = _host_name(urlsplit(url).netloc.rpartition("@")[2])
        self._names = frozenset((*_LOOPBACK, *hosts, *filter(None, (own,))))
        self._known: set[bytes | None] = set()
        self._origins = frozenset(origin.encode() for origin in origins)
        self._has_pages = has_pages
        self._metrics_path = metrics_path
        self._metrics_access = metrics_access
        self._refused = metrics.counter(catalog.SERVICES_REQUESTS_REFUSED)
        for reason in _REASONS:
            self._refused.touch({"reason": reason})

    def __getattr__(self, name: str) -> Any:
        # `app.state` and `app.routes` still work on the guarded app.
        if name == "app":
            raise AttributeError(name)
        return getattr(self.app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if self._has_pages:
            send = _with_page_headers(send)
        found: Headers = dict(scope["headers"])
        if len(found) < len(scope["headers"]) and _hosts_in(scope) > 1:
            del found[b"host"]  # refused like none
        try:
            if found.get(b"host") not in self._known:
                self._check_host(scope, found.get(b"host", b""))
            if b"origin" in found or b"sec-fetch-site" in found:
                self._check_origin(scope, found)
        except _Refusal as refusal:
            self._refused.add(1, {"reason": refusal.reason})
            await _reply(scope, send, refusal)
            return
        if scope["type"] == "http" and scope["path"] == self._metrics_path:
            await self._show_metrics(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _check_host(self, scope: Scope, given: bytes) -> None:
        """Refuse a Host that is not one of ours: a page of another site may have pointed its own
        name to this address (DNS rebinding), and would then read the answers."""
        if not given:
            raise _Refusal("host", 400, "the request has no Host header, or several", "send one")
        name = _host_name(given.decode("latin-1"))
        if name not in self._names and name != _local_address(scope):
            raise _Refusal(
                "host",
                421,
                f"this service does not answer for the host {name[:100] or 'of this request'}",
                "use its address as configured, or add the host name to TELEMETRY_HOSTS",
            )
        if len(self._known) < _KNOWN_LIMIT:
            self._known.add(given)

    def _check_origin(self, scope: Scope, found: Headers) -> None:
        """Refuse requests that pages of other origins make; another port of this host is one.

        Following a link is allowed: it shows a page to the user, and nothing to the other page.
        """
        origin = found.get(b"origin")
        if origin is None:
            is_navigation = (
                scope["type"] == "http"
                and scope["method"] in ("GET", "HEAD")
                and found.get(b"sec-fetch-mode") == b"navigate"
                and found.get(b"sec-fetch-dest") == b"document"
            )
            allowed = is_navigation or found[b"sec-fetch-site"] in (b"none", b"same-origin")
        else:
            host = found[b"host"]
            allowed = origin in (b"http://" + host, b"https://" + host) or origin in self._origins
        if not allowed:
            raise _Refusal(
                "origin",
                403,
                "pages of other sites may not call this",
                "behind a reverse proxy, pass on the browser's Host header with its port",
            )

    async def _show_metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Show users' ids and costs only to clients with the token: on loopback any user of the
        machine may ask. For others the page has no series; Prometheus needs only see that the
        service is up."""
        request = HTTPConnection(scope)
        try:
            if not given_token(request):
                await _reply_text(send, _METRICS_NOTE)
                return
            self._metrics_access.check(request)
        except HTTPError as error:
            await _reply(scope, send, error)
        else:
            await self.app(scope, receive, send)


class _Refusal(HTTPError):
    def __init__(self, reason: str, status: int, message: str, remedy: str = "") -> None:
        super().__init__(status, message, remedy)
        self.reason = reason


def _hosts_in(scope: Scope) -> int:
    return sum(name == b"host" for name, _ in scope["headers"])


def _host_name(host: str) -> str:
    """Return the name in a Host header, in lower case; "" if it is malformed."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or port.endswith("]"):  # no port; the colon is one of an IPv6 address
        name, port = host.lower(), ""
    if port and not (port.isascii() and port.isdigit()):
        return ""
    return name.removesuffix(".")


def _local_address(scope: Scope) -> str:
    """Return the address that the connection arrived at, as a Host header has it. No name can
    be pointed to it: it has none."""
    address = (scope.get("server") or ("",))[0]
    return f"[{address}]" if ":" in address else address


_PAGE_HEADERS = [
    (name.encode(), value.encode())
    for name, value in {**page_headers(), "cache-control": "no-store"}.items()
]


def _with_page_headers(send: Send) -> Send:
    """Add to every answer the security headers that it doesn't have."""

    def sending(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            names = {name for name, _ in headers}
            headers += [pair for pair in _PAGE_HEADERS if pair[0] not in names]
            message = {**message, "headers": headers}
        return send(message)

    return sending


async def _reply(scope: Scope, send: Send, error: HTTPError) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close"})  # before accept: the server answers 403
            return
        kind = "websocket.http.response"
    body = json.dumps(error_body(error.message, error.remedy)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *((name.encode(), value.encode()) for name, value in (error.headers or {}).items()),
    ]
    await send({"type": f"{kind}.start", "status": error.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


async def _reply_text(send: Send, body: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
