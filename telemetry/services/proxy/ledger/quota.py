"""Decide whether a user may make a call: pure arithmetic on one user's figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from telemetry.services.proxy.pricing.money import usd

Kind = Literal["daily_budget", "monthly_budget", "requests", "tokens", "too_large", "busy"]

MS_PER_MINUTE = 60_000
MS_PER_DAY = 86_400_000
# The clocks of processes that share a ledger differ by seconds. Figures further ahead than this
# were rolled by a wrong clock, e.g. at boot before NTP set it; chosen by judgement, not measured.
_AHEAD_MINUTES = 5


@dataclass(frozen=True, slots=True)
class Period:
    """The UTC day, month and minute of a moment, each as a running number."""

    day: int
    month: int
    minute: int

    @classmethod
    def at(cls, ms: int) -> Period:
        """Return the period of ``ms`` since the epoch."""
        day = ms // MS_PER_DAY
        date = datetime.fromtimestamp(day * 86_400, UTC)
        return cls(day, date.year * 12 + date.month - 1, ms // MS_PER_MINUTE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason to refuse a call.

    Args:
        kind: which limit.
        message: what is wrong and what to do.
        retry_after_s: when it makes sense to ask again.
        retry: whether asking again soon can help, as the SDKs do by themselves.
    """

    kind: Kind
    message: str
    retry_after_s: int
    retry: bool


@dataclass(frozen=True, slots=True)
class Blocked:
    """Only open reservations prevent the call; it may wait for them."""


@dataclass(slots=True)
class Account:
    """One user's limits and figures, as the ledger's row has them (see schema.users)."""

    user_id: str
    daily_budget: int | None
    monthly_budget: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    keys_version: int
    day: int
    day_spent: int
    month: int
    month_spent: int
    minute: int
    minute_requests: int
    minute_tokens: int
    reserved: int
    reserved_tokens: int
    rejections: int

    def roll(self, now: Period) -> None:
        """Begin a new day, month or minute if one has begun.

        Seconds are ignored, by which another machine's clock may be ahead. Figures of a time far
        in the future become those of the present, with what was spent.
        """
        if self.minute - now.minute > _AHEAD_MINUTES:
            self.day, self.month, self.minute = now.day, now.month, now.minute
        if now.day > self.day:
            self.day, self.day_spent = now.day, 0
        if now.month > self.month:
            self.month, self.month_spent = now.month, 0
        if now.minute > self.minute:
            self.minute, self.minute_requests, self.minute_tokens = now.minute, 0, 0

    def check(
        self,
        amount: int,
        tokens: int,
        now_ms: int,
        *,
        hidden_amount: int = 0,
        hidden_tokens: int = 0,
    ) -> Refusal | Blocked | None:
        """Check a call that can cost ``amount`` picodollars and use ``tokens``; None admits it.
        The account must have been rolled to ``now_ms``.

        Hidden cost, for input that the request only refers to, is never a reason to refuse: most
        calls use far less. If it exceeds what is left, the call runs alone, so that at most one
        call is ever beyond a limit.

        Args:
            hidden_amount: of ``amount``, the part for input that the request only refers to.
            hidden_tokens: of ``tokens``, the same.
        """
        next_minute_s = max(1, -(-(MS_PER_MINUTE - now_ms % MS_PER_MINUTE) // 1000))
        requests = self.requests_per_minute
        if requests is not None and self.minute_requests >= requests:
            return Refusal(
                "requests",
                f"you have made your {requests} requests of this minute: wait for the next",
                next_minute_s,
                True,
            )
        blocked = False
        limit = self.tokens_per_minute
        if limit is not None:
            shown = tokens - hidden_tokens
            if shown > limit:
                return Refusal(
                    "too_large",
                    f"this call may use {shown} tokens, more than your {limit} a minute: "
                    "shorten it or lower its maximum of output tokens",
                    next_minute_s,
                    False,
                )
            left = limit - self.minute_tokens
            if shown > left:
                return Refusal(
                    "tokens",
                    f"you have used {self.minute_tokens} of your {limit} tokens of this minute, "
                    f"and this call may use {shown}: wait for the next minute",
                    next_minute_s,
                    True,
                )
            blocked = self.reserved_tokens + min(tokens, left) > left
        # An unpriced call still needs a budget that isn't spent.
        amount = max(amount, 1)
        least = max(amount - hidden_amount, 1)
        for kind, budget, spent in (
            ("daily_budget", self.daily_budget, self.day_spent),
            ("monthly_budget", self.monthly_budget, self.month_spent),
        ):
            if budget is None:
                continue
            left = budget - spent
            if least > left:
                return _over_budget(
                    "daily_budget" if kind == "daily_budget" else "monthly_budget",
                    budget,
                    spent,
                    least,
                    now_ms,
                )
            blocked = blocked or self.reserved + min(amount, left) > left
        return Blocked() if blocked else None

    def reserve(self, amount: int, tokens: int) -> None:
        """Set ``amount`` picodollars and ``tokens`` aside for a call."""
        self.reserved += amount
        self.reserved_tokens += tokens
        self.minute_requests += 1

    def release(self, amount: int, tokens: int) -> None:
        """Give back what a call had set aside."""
        self.reserved -= amount
        self.reserved_tokens -= tokens

    def charge(self, started: Period, cost: int, tokens: int) -> None:
        """Charge a call to the day and month it started in, and its tokens to the present minute,
        since that is when they were used. A call that started later than today did so by a wrong
        clock, which has been set since: it is charged to today.
        """
        if started.day >= self.day:
            self.day_spent += cost
        if started.month >= self.month:
            self.month_spent += cost
        self.minute_tokens += tokens


def busy() -> Refusal:
    """Return the refusal of a call that has waited long enough for open reservations."""
    return Refusal(
        "busy",
        "your calls that are still running hold the rest of your limit: try again as they end",
        1,
        True,
    )


def _over_budget(
    kind: Literal["daily_budget", "monthly_budget"],
    budget: int,
    spent: int,
    amount: int,
    now_ms: int,
) -> Refusal:
    now = datetime.fromtimestamp(now_ms // 1000, UTC)
    if kind == "daily_budget":
        span = "day"
        until = (now_ms // MS_PER_DAY + 1) * 86_400
    else:
        span = "month"
        year, month = divmod(now.year * 12 + now.month, 12)
        until = int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp())
    left = max(0, budget - spent)
    said = f"you have spent {usd(spent)} of your {usd(budget)} USD for this UTC {span}"
    if left:
        said += (
            f"; the {usd(left)} left don't cover the {usd(amount)} USD this call can cost at "
            "most: lower its maximum of output tokens"
        )
    else:
        said += f": wait for the next {span}, or ask for a larger budget"
    return Refusal(kind, said, max(1, until - now_ms // 1000), False)
