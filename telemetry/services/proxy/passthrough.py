"""Calls that cost nothing: the list of models, token counts. They need a key, no budget."""

from __future__ import annotations

import json

import aiohttp
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from telemetry.services.proxy.accounts import user_of
from telemetry.services.proxy.answer import Proxy
from telemetry.services.proxy.replies import (
    RequestError,
    key_of,
    read_body,
    send_error,
    unauthorized,
)
from telemetry.services.proxy.settings import Upstream
from telemetry.services.proxy.upstream import UpstreamError, header, returned
from telemetry.services.proxy.wires import ANTHROPIC, OPENAI, Wire
from telemetry.services.proxy.wires.base import AskError, model_of

Headers = list[tuple[bytes, bytes]]


class Passthrough:
    """An unmetered endpoint.

    Args:
        proxy: what it works with.
        wire: its format, None where the client's headers tell.
    """

    def __init__(self, proxy: Proxy, wire: Wire | None) -> None:
        self._proxy = proxy
        self._wire = wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = scope["headers"]
        wire = self._wire or (ANTHROPIC if header(headers, b"anthropic-version") else OPENAI)
        try:
            await self._handle(wire, scope, receive, send)
        except RequestError as error:
            await send_error(send, wire, error)

    async def _handle(self, wire: Wire, scope: Scope, receive: Receive, send: Send) -> None:
        proxy = self._proxy
        headers: Headers = scope["headers"]
        key = key_of(headers)
        if not key or not await run_in_threadpool(user_of, proxy.ledger.engine, key):
            raise unauthorized(has_key=bool(key))
        body = await read_body(receive, headers, proxy.settings.max_body_bytes)
        upstream, body = self._route(wire, body)
        query = scope.get("query_string", b"").decode("latin-1")
        path = scope["path"].removeprefix("/v1") + (f"?{query}" if query else "")
        try:
            upstream, response = await proxy.upstreams.call(
                upstream, wire, scope["method"], path, headers, body
            )
            async with response:
                answer = await response.read()
        except UpstreamError as error:
            proxy.metrics.error(error.upstream.name, error.kind)
            raise RequestError(error.status, error.message) from None
        except (aiohttp.ClientError, TimeoutError):
            proxy.metrics.error(upstream.name, "interrupted")
            raise RequestError(502, f"{upstream.name} broke off: try again") from None
        back = [*returned(response), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": response.status, "headers": back})
        await send({"type": "http.response.body", "body": answer})

    def _route(self, wire: Wire, body: bytes) -> tuple[Upstream, bytes]:
        """Where to send it, and the body with an alias replaced."""
        settings = self._proxy.settings
        model = ""
        if body:
            try:
                request = json.loads(body)
                asked = model_of(request if isinstance(request, dict) else {})
            except AskError as error:
                raise RequestError(400, str(error)) from None
            except (ValueError, RecursionError) as error:
                raise RequestError(400, f"the request is not valid JSON: {error}") from None
            model = settings.aliases.get(asked, asked)
            if model != asked:
                body = json.dumps({**request, "model": model}).encode()
        upstream = settings.route(wire.name, model) if model else None
        if upstream is None:
            # No model to go by: the provider itself, which the last upstream always is.
            upstream = next(u for u in reversed(settings.upstreams) if u.wire == wire.name)
        return upstream, body
