"""The ledger's numbers as metrics: they survive restarts, and only one worker exports them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from sqlalchemy import select

from telemetry import catalog
from telemetry.metrics import Point
from telemetry.services.proxy.ledger.call_ids import now_ms
from telemetry.services.proxy.ledger.ledger import Ledger
from telemetry.services.proxy.ledger.quota import Period
from telemetry.services.proxy.ledger.schema import series, users
from telemetry.services.proxy.pricing.money import PICO

KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")
_NS_PER_MS = 1_000_000
_ENDING_NS = 60_000_000_000  # several exports: one may get lost


class LedgerSource:
    """Metrics of the ledger, exported by the one process that leads.

    Args:
        ledger: the ledger.
    """

    resource: Mapping[str, str] = {"service.name": "proxy", "service.instance.id": "ledger"}
    metrics = (
        catalog.PROXY_API_CALLS,
        catalog.PROXY_API_COST,
        catalog.PROXY_API_TOKENS,
        catalog.PROXY_UNPRICED_CALLS,
        catalog.PROXY_QUOTA_REJECTIONS,
        catalog.PROXY_USER_COST_TODAY,
        catalog.PROXY_USER_BUDGET,
    )

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._budgets_seen: dict[str, int] = {}  # user to ns since the epoch

    def leads(self) -> bool:
        """Whether this process holds the ledger's reporter lease."""
        return self._ledger.leads

    def collect(self) -> Iterator[Point]:
        """Yield every series; each counter starts when the ledger first had it."""
        with self._ledger.reading() as connection:
            totals = connection.execute(select(series)).all()
            people = connection.execute(select(users)).all()
        sums: dict[tuple[catalog.Metric, tuple[tuple[str, str], ...]], tuple[float, int]] = {}

        def add(
            metric: catalog.Metric, attributes: dict[str, str], value: float, start_ms: int
        ) -> None:
            key = (metric, tuple(sorted(attributes.items())))
            before, began = sums.get(key, (0, start_ms))
            sums[key] = (before + value, min(began, start_ms))

        for row in totals:
            began = row.created_ms
            whose = {"user_id": row.user_id, "model": row.model}
            add(catalog.PROXY_API_CALLS, {**whose, "status": row.status}, row.calls, began)
            add(catalog.PROXY_API_COST, whose, row.cost, began)
            for kind in KINDS:
                add(catalog.PROXY_API_TOKENS, {**whose, "kind": kind}, getattr(row, kind), began)
            add(catalog.PROXY_UNPRICED_CALLS, {"model": row.model}, row.unpriced, began)
        for (metric, attributes), (value, start_ms) in sums.items():
            # Summed up as integers first, so that the division rounds once.
            shown = value / PICO if metric is catalog.PROXY_API_COST else value
            yield Point(metric, attributes, shown, start_ms * _NS_PER_MS)
        today = Period.at(now_ms()).day
        now_ns = time.time_ns()
        for user in people:
            whom = {"user_id": user.user_id}
            yield Point(
                catalog.PROXY_QUOTA_REJECTIONS, whom, user.rejections, user.created_ms * _NS_PER_MS
            )
            spent = user.day_spent if user.day == today else 0
            yield Point(catalog.PROXY_USER_COST_TODAY, whom, spent / PICO, now_ns)
            if user.daily_budget is not None:
                self._budgets_seen[user.user_id] = now_ns
                yield Point(catalog.PROXY_USER_BUDGET, whom, user.daily_budget / PICO, now_ns)
            elif now_ns - self._budgets_seen.get(user.user_id, 0) < _ENDING_NS:
                # Removed: without an end marker its last value would linger for 5 minutes.
                yield Point(catalog.PROXY_USER_BUDGET, whom, None, now_ns)
