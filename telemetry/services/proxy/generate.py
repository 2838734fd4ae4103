"""A metered call, from the client's request to its settlement in the ledger.

Plain ASGI rather than Starlette's request and response objects: this is the hot path.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from opentelemetry import trace
from starlette.types import Receive, Scope, Send

from telemetry.services.proxy.accounts import digest
from telemetry.services.proxy.genai import GenAIMetrics
from telemetry.services.proxy.ids import text
from telemetry.services.proxy.ledger import Ledger, LedgerUnavailableError
from telemetry.services.proxy.operations import Reservation, Settle, Status, UnknownKey
from telemetry.services.proxy.prices import PriceBook, Rates
from telemetry.services.proxy.quota import Refusal
from telemetry.services.proxy.replies import (
    RequestError,
    key_of,
    read_body,
    refused,
    send_error,
    unauthorized,
)
from telemetry.services.proxy.settings import Settings, Upstream
from telemetry.services.proxy.usage import Tokens
from telemetry.services.proxy.upstream import Upstreams, UpstreamError, returned
from telemetry.services.proxy.watch import ClientWatch
from telemetry.services.proxy.wires import Ask, Context, Wire
from telemetry.services.proxy.wires.base import AskError, Endpoint

CALL_ID = b"x-telemetry-call-id"
OTHER = "other"
# A judgement, on the safe side: text runs at 3 to 4.5 bytes of JSON a token.
BYTES_PER_TOKEN = 3
# Pictures and files travel as base64, which says nothing of their tokens. Most pictures cost
# up to 1,600 (https://docs.claude.com/en/docs/build-with-claude/vision).
ATTACHMENT_TOKENS = 1600
_ATTACHMENT_CHARS = 2000
# A call ends a good while before its reservation does.
_MARGIN_S = 60.0


@dataclass
class Proxy:
    """What every endpoint of the proxy works with."""

    settings: Settings
    ledger: Ledger
    prices: PriceBook
    upstreams: Upstreams
    metrics: GenAIMetrics


@dataclass
class _Outcome:
    """How a call ended, gathered on the way."""

    upstream: Upstream
    status: Status = "upstream_error"
    http_status: int = 502
    tokens: Tokens | None = None
    context: Context = ()
    estimated: bool = False
    error_type: str = ""
    first_s: float | None = None


class Generate:
    """One generating endpoint.

    Args:
        proxy: what it works with.
        wire: its format.
        endpoint: which it is.
        path: below the upstream's address.
    """

    def __init__(self, proxy: Proxy, wire: Wire, endpoint: Endpoint, path: str) -> None:
        self._proxy = proxy
        self._wire = wire
        self._endpoint = endpoint
        self._path = path
        self._lasts_ms = int((proxy.settings.total_timeout_s + _MARGIN_S) * 1000)
        self._wait_ms = int(proxy.settings.wait_s * 1000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._handle(scope, receive, send)
        except RequestError as error:
            await send_error(send, self._wire, error)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        proxy = self._proxy
        headers = scope["headers"]
        key = key_of(headers)
        if not key:
            raise unauthorized(has_key=False)
        raw = await read_body(receive, headers, proxy.settings.max_body_bytes)
        request, ask = self._read(raw)
        model = proxy.settings.aliases.get(ask.model, ask.model)
        if model != ask.model:
            request["model"] = model
            raw = json.dumps(request).encode()
        upstream = proxy.settings.route(self._wire.name, model)
        if upstream is None:
            raise RequestError(
                404, f"no upstream of this proxy serves {model!r}: choose one of /v1/models"
            )
        rates = proxy.prices.rates(upstream.prices, model, ask.context)
        estimate = input_estimate(raw, request)
        reservation = await self._reserve(key, ask, model, upstream, rates, estimate)
        outcome = _Outcome(upstream)
        body = self._wire.with_usage(self._endpoint, ask, request, raw)
        answer = _Answer(self, scope, receive, send, ask, outcome, reservation, began, estimate)
        try:
            await answer.run(body)
        finally:
            self._settle(reservation, model, upstream, rates, ask, outcome, began)

    def _read(self, raw: bytes) -> tuple[dict[str, Any], Ask]:
        try:
            request = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise RequestError(400, f"the request is not valid JSON: {error}") from None
        if not isinstance(request, dict):
            raise RequestError(400, "the request must be a JSON object")
        try:
            return request, self._wire.read(self._endpoint, request)
        except AskError as error:
            raise RequestError(400, str(error)) from None

    async def _reserve(
        self,
        key: str,
        ask: Ask,
        model: str,
        upstream: Upstream,
        rates: Rates | None,
        estimate: int,
    ) -> Reservation:
        settings = self._proxy.settings
        most = settings.max_output_tokens if ask.max_output is None else ask.max_output
        span = trace.get_current_span().get_span_context()
        try:
            verdict = await self._proxy.ledger.reserve(
                digest=digest(key),
                endpoint=self._endpoint,
                provider=upstream.name,
                model=model,
                stream=ask.stream,
                amount=rates.most(estimate, most, caches=ask.caches) if rates else 0,
                tokens=estimate + most,
                priced=rates is not None,
                price_version=rates.version if rates else "",
                trace_id=f"{span.trace_id:032x}" if span.trace_id else "",
                lasts_ms=self._lasts_ms,
                wait_ms=self._wait_ms,
            )
        except LedgerUnavailableError as error:
            raise RequestError(
                503,
                f"the ledger can't be written ({error}), so nothing was sent to the model: "
                "whoever runs this proxy must free disk space or restore the database",
                headers={"retry-after": "5"},
            ) from None
        if isinstance(verdict, Refusal):
            raise refused(verdict)
        if isinstance(verdict, UnknownKey):
            raise unauthorized(has_key=True, revoked=verdict.revoked)
        return verdict

    def _settle(
        self,
        reservation: Reservation,
        model: str,
        planned: Upstream,
        rates: Rates | None,
        ask: Ask,
        outcome: _Outcome,
        began: float,
    ) -> None:
        proxy = self._proxy
        upstream = outcome.upstream
        if outcome.context != ask.context or upstream is not planned:
            rates = proxy.prices.rates(upstream.prices, model, outcome.context)
        tokens = outcome.tokens or Tokens()
        # What no provider has confirmed to exist may be any text at all.
        label = model if rates is not None or outcome.status == "ok" else OTHER
        proxy.ledger.settle(
            Settle(
                reservation=reservation,
                status=outcome.status,
                http_status=outcome.http_status,
                label=label,
                provider=upstream.name,
                priced=rates is not None,
                price_version=rates.version if rates else "",
                tokens=tokens,
                cost=rates.cost(tokens) if rates and outcome.tokens else 0,
                estimated=outcome.estimated,
            )
        )
        proxy.metrics.record(
            self._endpoint,
            upstream.name,
            label,
            outcome.error_type,
            time.perf_counter() - began,
            outcome.tokens,
            outcome.first_s,
        )
        if outcome.error_type and outcome.status in ("upstream_error", "interrupted"):
            proxy.metrics.error(upstream.name, outcome.error_type)


class _Answer:
    """Fetches one answer and passes it on."""

    def __init__(
        self,
        endpoint: Generate,
        scope: Scope,
        receive: Receive,
        send: Send,
        ask: Ask,
        outcome: _Outcome,
        reservation: Reservation,
        began: float,
        estimate: int,
    ) -> None:
        self._proxy = endpoint._proxy
        self._wire = endpoint._wire
        self._name = endpoint._endpoint
        query = scope.get("query_string", b"")
        self._path = endpoint._path + ("?" + query.decode("latin-1") if query else "")
        self._scope = scope
        self._receive = receive
        self._send = send
        self._ask = ask
        self._outcome = outcome
        self._call_id = text(reservation.id)
        self._began = began
        self._estimate = estimate

    async def run(self, body: bytes) -> None:
        """Make the call; the outcome says how it went, whatever happens."""
        outcome = self._outcome
        if not self._ask.stream:
            await self._fetch(body)
            return
        settings = self._proxy.settings
        limit_s = settings.drain_limit_s if settings.on_disconnect == "drain" else 0.0
        try:
            async with asyncio.timeout(None) as deadline, ClientWatch(
                self._receive, deadline, limit_s
            ):
                await self._fetch(body)
        except TimeoutError:
            if not deadline.expired():
                raise
            outcome.status, outcome.error_type = "cancelled", "client_disconnected"
            outcome.http_status = 499
            if outcome.tokens is None:
                # Nothing came yet, but the provider has read the prompt.
                outcome.tokens, outcome.estimated = Tokens(input=self._estimate), True

    async def _fetch(self, body: bytes) -> None:
        outcome = self._outcome
        try:
            outcome.upstream, response = await self._proxy.upstreams.call(
                outcome.upstream, self._wire, "POST", self._path, self._scope["headers"], body
            )
        except UpstreamError as error:
            outcome.upstream = error.upstream
            outcome.http_status, outcome.error_type = error.status, error.kind
            await self._fail(error.status, error.message)
            return
        async with response:
            if response.status >= 400:
                await self._pass_error(response)
            elif self._ask.stream and response.content_type == "text/event-stream":
                await self._pass_stream(response)
            else:
                await self._pass_whole(response)

    async def _fail(self, status: int, message: str) -> None:
        extra = {CALL_ID.decode(): self._call_id}
        await send_error(self._send, self._wire, RequestError(status, message, headers=extra))

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        """The whole body; None where the upstream broke off, which the client was told."""
        outcome = self._outcome
        try:
            return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            slow = isinstance(error, TimeoutError)
            outcome.error_type = "timeout" if slow else "interrupted"
            outcome.http_status = 504 if slow else 502
            outcome.status = "interrupted"
            # It had begun to answer, so it has read the prompt.
            outcome.tokens, outcome.estimated = Tokens(input=self._estimate), True
            name = outcome.upstream.name
            await self._fail(
                outcome.http_status, f"{name} broke off in the middle of its answer: try again"
            )
            return None

    async def _send_whole(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        headers = returned(response)
        headers.append((b"content-length", b"%d" % len(body)))
        headers.append((CALL_ID, self._call_id.encode()))
        await self._send(
            {"type": "http.response.start", "status": response.status, "headers": headers}
        )
        await self._send({"type": "http.response.body", "body": body})

    async def _pass_error(self, response: aiohttp.ClientResponse) -> None:
        outcome = self._outcome
        status = outcome.http_status = response.status
        theirs = status >= 500 or status in (403, 429)
        outcome.status = "upstream_error" if theirs else "client_error"
        outcome.error_type = f"http_{status}"
        body = await response.read()
        await self._send_whole(response, body)

    async def _pass_whole(self, response: aiohttp.ClientResponse) -> None:
        outcome = self._outcome
        body = await self._read(response)
        if body is None:
            return
        try:
            answer = json.loads(body)
        except ValueError:
            outcome.error_type, outcome.http_status = "garbled", 502
            output = len(body) // BYTES_PER_TOKEN
            outcome.tokens, outcome.estimated = Tokens(self._estimate, output=output), True
            await self._fail(502, f"{outcome.upstream.name} answered with broken JSON: try again")
            return
        used = self._wire.used(answer) if isinstance(answer, dict) else None
        if used is None:
            output = 0 if self._name == "embeddings" else len(body) // BYTES_PER_TOKEN
            outcome.tokens, outcome.estimated = Tokens(self._estimate, output=output), True
        else:
            outcome.tokens, outcome.context = used
        outcome.status, outcome.http_status = "ok", response.status
        await self._send_whole(response, body)

    async def _pass_stream(self, response: aiohttp.ClientResponse) -> None:
        outcome, send = self._outcome, self._send
        stream = self._wire.stream(self._name, self._ask)
        headers = returned(response)
        headers.append((CALL_ID, self._call_id.encode()))
        outcome.http_status = response.status
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        broken = ""
        try:
            async for chunk in response.content.iter_any():
                if outcome.first_s is None:
                    outcome.first_s = time.perf_counter() - self._began
                data = stream.feed(chunk)
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            broken = "timeout"
        except aiohttp.ClientError:
            broken = "interrupted"
        finally:
            rest = stream.rest()
            outcome.tokens, outcome.estimated = stream.tokens(self._estimate)
            outcome.context = stream.context
        if not (broken or stream.complete or stream.failed):
            broken = "interrupted"
        if stream.failed:
            outcome.status, outcome.error_type = "upstream_error", "stream_error"
        elif broken:
            outcome.status, outcome.error_type = "interrupted", broken
            name = outcome.upstream.name
            rest += self._wire.error_event(f"{name} broke off in the middle of its answer")
        else:
            outcome.status = "ok"
        await send({"type": "http.response.body", "body": rest})


def input_estimate(raw: bytes, request: dict[str, Any]) -> int:
    """Input tokens that a request may have, on the safe side, from its size.

    Args:
        raw: the request's body.
        request: the same, decoded.
    """
    size = len(raw)
    # Only a large request can hold an attachment worth looking for.
    if size > _ATTACHMENT_CHARS and (b"base64" in raw or b"image" in raw or b"file" in raw):
        attachments, chars = _attachments(request)
        return (size - chars) // BYTES_PER_TOKEN + attachments * ATTACHMENT_TOKENS + 1
    return size // BYTES_PER_TOKEN + 1


def _attachments(value: object) -> tuple[int, int]:
    """How many base64 texts a request holds, and their characters in all."""
    if isinstance(value, str):
        long = len(value) > _ATTACHMENT_CHARS
        return (1, len(value)) if long and " " not in value[:_ATTACHMENT_CHARS] else (0, 0)
    children: list[Any] = []
    if isinstance(value, dict):
        children = list(value.values())
    elif isinstance(value, list):
        children = value
    found = [_attachments(child) for child in children]
    return sum(n for n, _ in found), sum(chars for _, chars in found)
