"""The writer's requests and their results."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from telemetry.services.proxy.ledger.quota import Period, Refusal
from telemetry.services.proxy.pricing.usage import Tokens

if TYPE_CHECKING:
    # At run time, `telemetry keys` would load the table of prices for nothing.
    from telemetry.services.proxy.call import Call

Status = Literal["ok", "client_error", "upstream_error", "interrupted", "cancelled", "expired"]
"""How a call ended: answered; refused by the provider as the client's fault; failed at the
provider; failed there half-way; broken off by the proxy, because the client disconnected or the
proxy stopped; its process died."""


OTHER = "other"
"""The name in metrics of every model that no provider has answered for."""


class LedgerUnavailableError(Exception):
    """The ledger can't be written now; nothing was reserved."""


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """No key has this digest, or it was revoked."""

    revoked: bool


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call that may begin; ``id`` is its row in the ledger."""

    id: int
    user_id: str
    key_id: str
    amount: int
    tokens: int
    started_ms: int
    period: Period


Verdict = Reservation | Refusal | UnknownKey
"""The answer to a call that wants to begin."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """A call that wants to begin.

    Args:
        call: the call, with the most that it can cost.
        lasts_ms: after which time its reservation is void.
        waits_until_ms: until when it waits for open reservations, ms since the epoch.
        future: gets the verdict.
    """

    call: Call
    lasts_ms: int
    waits_until_ms: int
    future: asyncio.Future[Verdict]


@dataclass(slots=True)
class Settle:
    """A call that has ended.

    Args:
        reservation: its reservation.
        status: how it ended.
        http_status: what the client was answered.
        tokens: what it used.
        cost: what that costs, in picodollars.
        priced: whether a price is known.
        price_version: which price.
        estimated: whether ``tokens`` is our estimate, not the provider's report.
        label: the model as metrics show it.
        provider: the upstream that answered.
    """

    reservation: Reservation
    status: Status
    http_status: int
    label: str
    provider: str
    priced: bool
    price_version: str
    tokens: Tokens = field(default_factory=Tokens)
    cost: int = 0
    estimated: bool = False
    ended_ms: int = 0


def cancelled(reservation: Reservation, ended_ms: int) -> Settle:
    """The settlement of a call that was allowed and will not be made."""
    return Settle(
        reservation=reservation,
        status="cancelled",
        http_status=499,
        label=OTHER,
        provider="",
        priced=True,
        price_version="",
        ended_ms=ended_ms,
    )
