"""Fetch one answer from a provider and pass it on as it comes."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
from starlette.types import Receive, Send

from telemetry.services.proxy.call import Call
from telemetry.services.proxy.http.errors import RequestError, send_error
from telemetry.services.proxy.http.outcome import Outcome
from telemetry.services.proxy.http.parts import Proxy
from telemetry.services.proxy.ledger.call_ids import text
from telemetry.services.proxy.ledger.operations import Reservation
from telemetry.services.proxy.pricing.estimate import BYTES_PER_TOKEN
from telemetry.services.proxy.pricing.usage import Tokens
from telemetry.services.proxy.upstream.client import CALL_ID, UpstreamError, returned
from telemetry.services.proxy.upstream.disconnect import ClientWatch

# The upstream's own timeout should come first.
_LATE_S = 5.0


class Answer:
    """Fetch one answer and pass it on."""

    def __init__(
        self, proxy: Proxy, call: Call, reservation: Reservation, receive: Receive, send: Send
    ) -> None:
        self._proxy = proxy
        self._call = call
        self._wire = call.request.wire
        self._call_id = text(reservation.id)
        self._receive = receive
        self._send = send
        self.outcome = Outcome(call.upstream, context=call.ask.context)

    async def run(self) -> None:
        """Make the call; `outcome` says how it ended, even if this raises."""
        try:
            if self._call.ask.stream:
                await self._watched()
            else:
                # Read to its end even if the client disconnects: it costs the same, and only the
                # complete answer says how much.
                await self._fetch()
        except asyncio.CancelledError:
            # This process stops, and its grace period is over.
            self._cut("stopped")
            raise

    async def _watched(self) -> None:
        settings = self._proxy.settings
        limit_s = settings.drain_limit_s if settings.on_disconnect == "drain" else 0.0
        watch = None
        try:
            # Also ends a call whose client neither reads nor disconnects.
            async with asyncio.timeout(settings.total_timeout_s + _LATE_S) as deadline:
                async with ClientWatch(self._receive, deadline, limit_s) as watch:
                    await self._fetch()
        except TimeoutError:
            if not deadline.expired():
                raise
            self._cut("client_disconnected" if watch and watch.gone else "timeout")

    def _cut(self, why: str) -> None:
        """Note that the proxy broke off the call, unless it had ended."""
        outcome = self.outcome
        if outcome.status == "ok" or outcome.error_type:
            return
        outcome.status, outcome.error_type, outcome.http_status = "cancelled", why, 499
        if outcome.tokens is None:
            # Nothing came yet, but the provider has read the prompt.
            outcome.tokens, outcome.estimated = Tokens(input=self._call.input_tokens), True

    async def _fetch(self) -> None:
        outcome = self.outcome
        try:
            outcome.upstream, response = await self._proxy.upstreams.call(
                self._call.upstream, self._call.request
            )
        except UpstreamError as error:
            outcome.upstream = error.upstream
            outcome.http_status, outcome.error_type = error.status, error.kind
            if error.kind == "timeout":
                # It has the prompt, and may still be working on it.
                outcome.tokens, outcome.estimated = Tokens(input=self._call.input_tokens), True
            await self._fail(error.status, error.message)
            return
        async with response:
            outcome.known = response.status < 400
            if not outcome.known:
                await self._pass_error(response)
            elif self._call.ask.stream and response.content_type == "text/event-stream":
                await self._pass_stream(response)
            else:
                await self._pass_whole(response)

    async def _fail(self, status: int, message: str) -> None:
        extra = {CALL_ID.decode(): self._call_id}
        await send_error(self._send, self._wire, RequestError(status, message, headers=extra))

    async def _read(self, response: aiohttp.ClientResponse) -> bytes | None:
        """Read the whole body; None if the upstream broke off, which the client has been told."""
        outcome = self.outcome
        try:
            return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            slow = isinstance(error, TimeoutError)
            outcome.error_type = "timeout" if slow else "interrupted"
            outcome.http_status = 504 if slow else 502
            outcome.status = "interrupted"
            # It had begun to answer, so it has read the prompt.
            outcome.tokens, outcome.estimated = Tokens(input=self._call.input_tokens), True
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
        outcome = self.outcome
        status = outcome.http_status = response.status
        theirs = status >= 500 or status in (403, 429)
        outcome.status = "upstream_error" if theirs else "client_error"
        outcome.error_type = f"http_{status}"
        try:
            body = await response.read()
        except (aiohttp.ClientError, TimeoutError):
            outcome.http_status = 502
            await self._fail(502, f"{outcome.upstream.name} broke off in an error: try again")
            return
        await self._send_whole(response, body)

    async def _pass_whole(self, response: aiohttp.ClientResponse) -> None:
        outcome = self.outcome
        body = await self._read(response)
        if body is None:
            return
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            outcome.error_type, outcome.http_status = "garbled", 502
            output = len(body) // BYTES_PER_TOKEN
            outcome.tokens, outcome.estimated = Tokens(self._call.input_tokens, output=output), True
            await self._fail(502, f"{outcome.upstream.name} answered with broken JSON: try again")
            return
        used = self._wire.used(answer) if isinstance(answer, dict) else None
        if used is None:
            output = 0 if self._call.endpoint == "embeddings" else len(body) // BYTES_PER_TOKEN
            outcome.tokens, outcome.estimated = Tokens(self._call.input_tokens, output=output), True
        else:
            outcome.tokens, outcome.context = used
        outcome.status, outcome.http_status = "ok", response.status
        await self._send_whole(response, body)

    async def _pass_stream(self, response: aiohttp.ClientResponse) -> None:
        outcome, send = self.outcome, self._send
        stream = self._wire.stream(self._call.endpoint, self._call.ask)
        headers = returned(response)
        headers.append((CALL_ID, self._call_id.encode()))
        outcome.http_status = response.status
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        broken = ""
        try:
            async for chunk in response.content.iter_any():
                if outcome.first_s is None:
                    outcome.first_s = time.perf_counter() - self._call.began_s
                data = stream.feed(chunk)
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            broken = "timeout"
        except aiohttp.ClientError:
            broken = "interrupted"
        finally:
            rest = stream.rest()
            outcome.tokens, outcome.estimated = stream.tokens(self._call.input_tokens)
            if stream.usage is not None:
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
