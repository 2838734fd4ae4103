"""A metered call, from the client's request to its settlement in the ledger.

Plain ASGI rather than Starlette's request and response objects: this is the hot path.
"""

from __future__ import annotations

import json
import time

from opentelemetry import trace
from starlette.types import Receive, Scope, Send

from telemetry.services.proxy.call import Call, Maximum
from telemetry.services.proxy.http.answer import Answer
from telemetry.services.proxy.http.errors import (
    RequestError,
    ledger_away,
    refused,
    send_error,
    unauthorized,
)
from telemetry.services.proxy.http.outcome import Outcome
from telemetry.services.proxy.http.parts import Proxy
from telemetry.services.proxy.http.request import (
    SMALL_BYTES,
    check_key,
    decoded,
    key_of,
    length_of,
    read_body,
    routed,
    worked,
)
from telemetry.services.proxy.ledger.accounts import digest
from telemetry.services.proxy.ledger.operations import (
    LedgerUnavailableError,
    Reservation,
    Settle,
    UnknownKey,
)
from telemetry.services.proxy.ledger.quota import Refusal
from telemetry.services.proxy.pricing.cost import Rates
from telemetry.services.proxy.pricing.estimate import Input, input_estimate
from telemetry.services.proxy.pricing.usage import MOST_TOKENS, Tokens
from telemetry.services.proxy.upstream.client import query_of
from telemetry.services.proxy.upstream.request import UpstreamRequest
from telemetry.services.proxy.wires import Ask, Wire
from telemetry.services.proxy.wires.base import AskError, Endpoint

# A reservation outlasts its call by this time.
_MARGIN_S = 60.0


class Generate:
    """One generating endpoint.

    Args:
        proxy: its parts.
        wire: its format.
        endpoint: its name.
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
        began_s = time.perf_counter()
        proxy = self._proxy
        headers = scope["headers"]
        key = key_of(headers)
        if not key:
            raise unauthorized(has_key=False)
        length = length_of(headers)
        if length is None or length > SMALL_BYTES:
            # A large body is read and decoded only for a caller with a key.
            await check_key(proxy.ledger.engine, key)
        raw = await read_body(receive, length, proxy.settings.max_body_bytes)
        call = await worked(lambda raw: self._read(scope, digest(key), began_s, raw), raw)
        reservation = await self._reserve(call)
        answer = Answer(proxy, call, reservation, receive, send)
        try:
            await answer.run()
        finally:
            self._settle(call, reservation, answer.outcome)

    def _read(self, scope: Scope, key_digest: str, began_s: float, raw: bytes) -> Call:
        request = decoded(raw)
        try:
            ask = self._wire.read(self._endpoint, request)
        except AskError as error:
            raise RequestError(400, str(error)) from None
        model, upstream = routed(self._proxy.settings, self._wire, ask.model)
        if model != ask.model:
            request["model"] = model
            raw = json.dumps(request).encode()
        found = input_estimate(raw, request, upstream.prices, model)
        rates = self._proxy.prices.rates(upstream.prices, model, ask.context)
        span = trace.get_current_span().get_span_context()
        return Call(
            digest=key_digest,
            trace_id=f"{span.trace_id:032x}" if span.trace_id else "",
            began_s=began_s,
            endpoint=self._endpoint,
            ask=ask,
            model=model,
            upstream=upstream,
            request=UpstreamRequest(
                wire=self._wire,
                method="POST",
                path=self._path + query_of(scope["query_string"]),
                headers=scope["headers"],
                body=self._wire.with_usage(self._endpoint, ask, request, raw),
                whole=not ask.stream,
            ),
            input_tokens=found.shown,
            rates=rates,
            maximum=self._maximum(ask, found, rates),
        )

    def _maximum(self, ask: Ask, found: Input, rates: Rates | None) -> Maximum:
        """The most that a call can cost, all its answers as long as they may be."""
        most = self._proxy.settings.max_output_tokens if ask.max_output is None else ask.max_output
        most = min(MOST_TOKENS, most * ask.choices)
        shown, hidden = found.shown, found.hidden
        amount = hidden_amount = 0
        if rates:
            amount = rates.most(shown + hidden, most, caches=ask.caches)
            hidden_amount = amount - rates.most(shown, most, caches=ask.caches) if hidden else 0
        return Maximum(amount, shown + hidden + most, hidden_amount, hidden)

    async def _reserve(self, call: Call) -> Reservation:
        try:
            verdict = await self._proxy.ledger.reserve(
                call, lasts_ms=self._lasts_ms, wait_ms=self._wait_ms
            )
        except LedgerUnavailableError as error:
            raise ledger_away(error) from None
        if isinstance(verdict, Refusal):
            raise refused(verdict)
        if isinstance(verdict, UnknownKey):
            raise unauthorized(has_key=True, revoked=verdict.revoked)
        return verdict

    def _settle(self, call: Call, reservation: Reservation, outcome: Outcome) -> None:
        proxy = self._proxy
        upstream, rates = outcome.upstream, call.rates
        if outcome.context != call.ask.context or upstream is not call.upstream:
            rates = proxy.prices.rates(upstream.prices, call.model, outcome.context)
        tokens = outcome.tokens or Tokens()
        label = proxy.ledger.label(call.model, answered=outcome.known)
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
            time.perf_counter() - call.began_s,
            None if outcome.estimated else outcome.tokens,
            outcome.first_s,
        )
        if outcome.error_type and outcome.status in ("upstream_error", "interrupted"):
            proxy.metrics.error(upstream.name, outcome.error_type)
