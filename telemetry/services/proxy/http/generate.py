"""A metered call, from the client's request to its settlement in the ledger.

Plain ASGI rather than Starlette's request and response objects: this is the hot path.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from opentelemetry import trace
from starlette.types import Receive, Scope, Send

from telemetry.services.proxy.http.answer import Answer, Outcome, Proxy
from telemetry.services.proxy.http.errors import (
    RequestError,
    ledger_away,
    refused,
    send_error,
    unauthorized,
)
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
from telemetry.services.proxy.ledger.ledger import LedgerUnavailableError
from telemetry.services.proxy.ledger.operations import Reservation, Settle, UnknownKey
from telemetry.services.proxy.ledger.quota import Refusal
from telemetry.services.proxy.pricing.estimate import Input, input_estimate
from telemetry.services.proxy.pricing.prices import Rates
from telemetry.services.proxy.pricing.usage import MOST_TOKENS, Tokens
from telemetry.services.proxy.settings import Upstream
from telemetry.services.proxy.upstream.wires import Ask, Wire
from telemetry.services.proxy.upstream.wires.base import AskError, Endpoint

# A call ends a good while before its reservation does.
_MARGIN_S = 60.0


@dataclass(slots=True)
class Plan:
    """What is to be done about a request.

    Args:
        ask: what it asks for.
        model: its model's real name.
        upstream: where it goes.
        body: what is sent there.
        input: tokens it may have.
    """

    ask: Ask
    model: str
    upstream: Upstream
    body: bytes
    input: Input


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
        length = length_of(headers)
        if length is None or length > SMALL_BYTES:
            # Nobody may have us take in and decode a large body without a key.
            await check_key(proxy.ledger.engine, key)
        raw = await read_body(receive, length, proxy.settings.max_body_bytes)
        plan = await worked(self._read, raw)
        rates = proxy.prices.rates(plan.upstream.prices, plan.model, plan.ask.context)
        reservation = await self._reserve(key, plan, rates)
        outcome = Outcome(plan.upstream, context=plan.ask.context)
        answer = Answer(
            proxy, self._wire, self._endpoint, self._path, scope, receive, send, plan.ask, outcome,
            reservation, began, plan.input.shown,
        )  # fmt: skip
        try:
            await answer.run(plan.body)
        finally:
            self._settle(reservation, plan, rates, outcome, began)

    def _read(self, raw: bytes) -> Plan:
        request = decoded(raw)
        try:
            ask = self._wire.read(self._endpoint, request)
        except AskError as error:
            raise RequestError(400, str(error)) from None
        model, upstream = routed(self._proxy.settings, self._wire, ask.model)
        if model != ask.model:
            request["model"] = model
            raw = json.dumps(request).encode()
        body = self._wire.with_usage(self._endpoint, ask, request, raw)
        found = input_estimate(raw, request, upstream.prices, model)
        return Plan(ask, model, upstream, body, found)

    async def _reserve(self, key: str, plan: Plan, rates: Rates | None) -> Reservation:
        settings, ask = self._proxy.settings, plan.ask
        most = settings.max_output_tokens if ask.max_output is None else ask.max_output
        most = min(MOST_TOKENS, most * ask.choices)
        shown, hidden = plan.input.shown, plan.input.hidden
        amount = hidden_amount = 0
        if rates:
            amount = rates.most(shown + hidden, most, caches=ask.caches)
            hidden_amount = amount - rates.most(shown, most, caches=ask.caches) if hidden else 0
        span = trace.get_current_span().get_span_context()
        try:
            verdict = await self._proxy.ledger.reserve(
                digest=digest(key),
                endpoint=self._endpoint,
                provider=plan.upstream.name,
                model=plan.model,
                stream=ask.stream,
                amount=amount,
                tokens=shown + hidden + most,
                hidden_amount=hidden_amount,
                hidden_tokens=hidden,
                priced=rates is not None,
                price_version=rates.version if rates else "",
                trace_id=f"{span.trace_id:032x}" if span.trace_id else "",
                lasts_ms=self._lasts_ms,
                wait_ms=self._wait_ms,
            )
        except LedgerUnavailableError as error:
            raise ledger_away(error) from None
        if isinstance(verdict, Refusal):
            raise refused(verdict)
        if isinstance(verdict, UnknownKey):
            raise unauthorized(has_key=True, revoked=verdict.revoked)
        return verdict

    def _settle(
        self,
        reservation: Reservation,
        plan: Plan,
        rates: Rates | None,
        outcome: Outcome,
        began: float,
    ) -> None:
        proxy = self._proxy
        upstream, model = outcome.upstream, plan.model
        if outcome.context != plan.ask.context or upstream is not plan.upstream:
            rates = proxy.prices.rates(upstream.prices, model, outcome.context)
        tokens = outcome.tokens or Tokens()
        label = proxy.ledger.label(model, answered=outcome.known)
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
            None if outcome.estimated else outcome.tokens,
            outcome.first_s,
        )
        if outcome.error_type and outcome.status in ("upstream_error", "interrupted"):
            proxy.metrics.error(upstream.name, outcome.error_type)
