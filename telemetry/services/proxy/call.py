"""A model call: who makes it, what it asks, where it goes and the most it can cost."""

from __future__ import annotations

from dataclasses import dataclass

from telemetry.services.proxy.pricing.cost import Rates
from telemetry.services.proxy.settings import Upstream
from telemetry.services.proxy.upstream.request import UpstreamRequest
from telemetry.services.proxy.wires import Ask
from telemetry.services.proxy.wires.base import Endpoint


@dataclass(frozen=True, slots=True)
class Maximum:
    """The most that a call can cost and use; what is reserved for it.

    Args:
        amount: in picodollars; 0 if the model is unpriced.
        tokens: input and output.
        hidden_amount: of ``amount``, what is for input that the request only refers to.
        hidden_tokens: of ``tokens``, the same.
    """

    amount: int
    tokens: int
    hidden_amount: int = 0
    hidden_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One model call, complete before anything is reserved or sent.

    Args:
        digest: SHA-256 of the caller's key, hex.
        trace_id: 32 hex digits, or ``""``.
        began_s: when its request came, by `time.perf_counter`.
        endpoint: the wire's endpoint.
        ask: what the request asks for.
        model: its model's real name, never an alias.
        upstream: where it goes first.
        request: what is sent there.
        input_tokens: estimate of the input that the request itself holds.
        rates: the model's prices; None if it is unpriced.
        maximum: the most that it can cost.
    """

    digest: str
    trace_id: str
    began_s: float
    endpoint: Endpoint
    ask: Ask
    model: str
    upstream: Upstream
    request: UpstreamRequest
    input_tokens: int
    rates: Rates | None
    maximum: Maximum
