"""HTTP that the services share: error replies, bounded bodies, the guard, pages' headers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from telemetry.errors import TelemetryError

BODY_BYTES = 1 << 20
# Of lists and objects in each other. The decoder takes some hundreds more; what works on the value
# afterwards may take fewer.
MAX_DEPTH = 100
# A larger body is read up to here all the same: a client that is still sending would otherwise
# see its connection reset instead of the reply.
DISCARD_BYTES = 64 << 20

Handler = Callable[[Request], Awaitable[Response]]
ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


class HTTPError(TelemetryError):
    """A request that can't be served.

    Args:
        status: HTTP status of the reply.
        message: what is wrong.
        remedy: what to do about it.
        headers: further headers of the reply.
    """

    def __init__(
        self,
        status: int,
        message: str,
        remedy: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.headers = headers


def error_body(message: str, remedy: str = "") -> dict[str, Any]:
    """The JSON of every error reply."""
    return {"error": {"message": message, "remedy": remedy}}


def error_reply(status: int, error: TelemetryError) -> JSONResponse:
    """Reply with an error that has no status of its own."""
    return JSONResponse(error_body(error.message, error.remedy), status)


async def reply_http_error(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for `HTTPError`."""
    assert isinstance(error, HTTPError)
    return JSONResponse(error_body(error.message, error.remedy), error.status, error.headers)


async def read_body(chunks: AsyncIterable[bytes], limit: int = BODY_BYTES) -> bytes:
    """Read a request's body.

    Args:
        chunks: the body as it comes.
        limit: bytes it may have.

    Raises:
        HTTPError: it is larger.
    """
    body = bytearray()
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > DISCARD_BYTES:
            break
        if size <= limit:
            body += chunk
    if size > limit:
        raise HTTPError(413, f"the body is larger than {limit} bytes", "send less at once")
    return bytes(body)


async def read_json(request: Request) -> Any:
    """Read a request's body as JSON.

    Raises:
        HTTPError: it is too large, or not JSON.
    """
    return parse_json(await read_body(request.stream()))


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; whatever it returns can be written as UTF-8 again.

    Raises:
        HTTPError: it is not JSON.
    """
    try:
        value = json.loads(text)
        # "\ud800" alone is JSON, but not text: written out it would fail far from here.
        if isinstance(text, str):
            text = text.encode("utf-8", "replace")
        if b"\\ud" in text.lower():
            whole = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
            value = json.loads(whole)
    except (ValueError, RecursionError) as error:
        raise HTTPError(400, f"the body is not JSON: {error}") from error
    if _is_deep(value):
        raise HTTPError(400, f"the body has more than {MAX_DEPTH} nested lists and objects")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        found: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                found += one.values()
            elif isinstance(one, list):
                found += one
        if not found:
            return False
        level = found
    return True


def bearer_token(authorization: str) -> str:
    """Return the token of an ``Authorization: Bearer`` header, "" if it has another scheme."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def guarded(handler: Handler, check: Callable[[Request], None]) -> Handler:
    """Call a handler only for requests that pass a check.

    Args:
        handler: of a route.
        check: raises `HTTPError` to refuse a request.
    """

    async def checked(request: Request) -> Response:
        check(request)
        return await handler(request)

    return checked


def page_headers(style_src: str = "'self'") -> dict[str, str]:
    """Return the security headers of a page: nothing from other sites, no inline script.

    What a model or a log line says can't run, then.

    Args:
        style_src: where the page's styles may come from, as Content-Security-Policy says it.
    """
    return {
        "content-security-policy": f"default-src 'none'; script-src 'self'; style-src {style_src}; "
        "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        # Not no-referrer: browsers would then send `Origin: null` with forms.
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-cache",
    }


def asset_route(path: str, folder: Path) -> Route:
    """Serve a folder's scripts and style sheets, and nothing else in it.

    Args:
        path: URL path of the folder.
        folder: where the files are.
    """
    names = frozenset(file.name for file in folder.iterdir() if file.suffix in (".js", ".css"))

    async def send(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in names:
            raise HTTPError(404, f"there is no {name}")
        return FileResponse(folder / name, headers=page_headers())

    return Route(f"{path}/{{name}}", send)
