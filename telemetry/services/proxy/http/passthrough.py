"""Calls that cost nothing: token counts and lists of models. They need a key but no budget."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
from starlette.types import Receive, Scope, Send

from telemetry.services.proxy.http.errors import RequestError, not_served, send_error
from telemetry.services.proxy.http.parts import Proxy
from telemetry.services.proxy.http.request import (
    check_key,
    decoded,
    key_of,
    length_of,
    read_body,
    routed,
    worked,
)
from telemetry.services.proxy.settings import Upstream
from telemetry.services.proxy.upstream.client import UpstreamError, header, query_of, returned
from telemetry.services.proxy.upstream.request import UpstreamRequest
from telemetry.services.proxy.wires import WIRES, Wire
from telemetry.services.proxy.wires.base import AskError, model_of, objs


@dataclass(frozen=True)
class Fetched:
    """An upstream's complete answer."""

    upstream: Upstream
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def wire_of(scope: Scope) -> Wire:
    """Return the wire of a caller of a path that several wires have."""
    for wire in WIRES:
        if wire.marker and header(scope["headers"], wire.marker):
            return wire
    return WIRES[-1]


class _Free(ABC):
    """An unmetered endpoint.

    Args:
        proxy: what it works with.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = self._wire(scope)
        try:
            await check_key(self._proxy.ledger.engine, key_of(scope["headers"]))
            found = await self._answer(wire, scope, receive)
        except RequestError as error:
            await send_error(send, wire, error)
        else:
            headers = [*found.headers, (b"content-length", b"%d" % len(found.body))]
            await send({"type": "http.response.start", "status": found.status, "headers": headers})
            await send({"type": "http.response.body", "body": found.body})

    def _wire(self, scope: Scope) -> Wire:
        return wire_of(scope)

    @abstractmethod
    async def _answer(self, wire: Wire, scope: Scope, receive: Receive) -> Fetched:
        """Return the answer.

        Raises:
            RequestError: no upstream answered.
        """

    async def _fetch(
        self, upstream: Upstream, wire: Wire, scope: Scope, path: str, body: bytes = b""
    ) -> Fetched:
        proxy = self._proxy
        try:
            request = UpstreamRequest(wire, scope["method"], path, scope["headers"], body)
            upstream, response = await proxy.upstreams.call(upstream, request)
            async with response:
                answer = await response.read()
        except UpstreamError as error:
            proxy.metrics.error(error.upstream.name, error.kind)
            raise RequestError(error.status, error.message) from None
        except (aiohttp.ClientError, TimeoutError):
            proxy.metrics.error(upstream.name, "interrupted")
            raise RequestError(502, f"{upstream.name} broke off: try again") from None
        return Fetched(upstream, response.status, returned(response), answer)


class CountTokens(_Free):
    """A provider's count of a request's input tokens.

    Args:
        proxy: what it works with.
        wire: the provider's format, which has such a count.
    """

    def __init__(self, proxy: Proxy, wire: Wire) -> None:
        super().__init__(proxy)
        self._own_wire = wire

    def _wire(self, scope: Scope) -> Wire:
        return self._own_wire

    async def _answer(self, wire: Wire, scope: Scope, receive: Receive) -> Fetched:
        limit = self._proxy.settings.max_body_bytes
        raw = await read_body(receive, length_of(scope["headers"]), limit)
        upstream, body = await worked(self._read, raw)
        path = wire.count_path + query_of(scope["query_string"])
        return await self._fetch(upstream, wire, scope, path, body)

    def _read(self, raw: bytes) -> tuple[Upstream, bytes]:
        """Return the upstream of a request, and the body to send."""
        request = decoded(raw)
        try:
            model = model_of(request)
        except AskError as error:
            raise RequestError(400, str(error)) from None
        real, upstream = routed(self._proxy.settings, self._own_wire, model)
        return upstream, raw if real == model else json.dumps({**request, "model": real}).encode()


class Model(_Free):
    """One model, from the upstream that serves it."""

    async def _answer(self, wire: Wire, scope: Scope, receive: Receive) -> Fetched:
        model, upstream = routed(self._proxy.settings, wire, scope["path_params"]["model"])
        if {".", ".."} & set(model.split("/")):
            # It would name another path of the provider, requested with the provider's key.
            raise not_served(model)
        return await self._fetch(upstream, wire, scope, f"/models/{quote(model, safe='/:@')}")


class Models(_Free):
    """The models of all upstreams of the caller's format, each where its calls would go."""

    async def _answer(self, wire: Wire, scope: Scope, receive: Receive) -> Fetched:
        settings = self._proxy.settings
        theirs = [upstream for upstream in settings.upstreams if upstream.wire == wire.name]
        usable = [upstream for upstream in theirs if upstream.key or not upstream.needs_key]
        if len(usable) < 2:
            # As the provider has it; without a usable upstream, the error says what is missing.
            upstream = (usable or theirs)[-1]
            return await self._fetch(
                upstream, wire, scope, "/models" + query_of(scope["query_string"])
            )
        path = "/models" + wire.models_query
        found = await asyncio.gather(
            *(self._fetch(upstream, wire, scope, path) for upstream in usable),
            return_exceptions=True,
        )
        listed = [one for one in found if isinstance(one, Fetched) and one.status == 200]
        if not listed:
            raise RequestError(502, "no upstream of this proxy lists its models: try again")
        models = [
            model
            for one in listed
            for model in _models(one.body)
            if settings.route(wire.name, str(model.get("id"))) == one.upstream
        ]
        headers = [(b"content-type", b"application/json")]
        return Fetched(listed[0].upstream, 200, headers, json.dumps(wire.models(models)).encode())


class Elsewhere:
    """Any other path or method: what the proxy can't meter, it doesn't serve."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        paths = [path for wire in WIRES for path in (*wire.endpoints, wire.count_path) if path]
        said = (
            f"there is no {scope['method']} {scope['path']} here: this proxy serves POST "
            f"{', '.join(f'/v1{path}' for path in paths)}, and GET /v1/models"
        )
        await send_error(send, wire_of(scope), RequestError(404, said, "unknown_url"))


def _models(body: bytes) -> list[dict[str, Any]]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return objs(answer.get("data")) if isinstance(answer, dict) else []
