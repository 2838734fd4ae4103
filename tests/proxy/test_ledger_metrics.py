"""End markers of the ledger's series."""

from __future__ import annotations

from typing import Any

from telemetry import catalog
from telemetry.services.proxy.ledger import accounts, metrics
from telemetry.services.proxy.ledger.metrics import LedgerSource
from tests.proxy.conftest import Running


def test_removed_budget_ends_its_series(proxy: Running, monkeypatch: Any) -> None:
    ledger = proxy.proxy.ledger
    proxy.key("ann", daily_budget_usd=5)
    proxy.key("bob")
    found = LedgerSource(ledger)

    def budgets() -> list[tuple[Any, Any]]:
        points = [p for p in found.collect() if p.metric is catalog.PROXY_USER_BUDGET]
        return [(p.attributes, p.value) for p in points]

    assert budgets() == [({"user_id": "ann"}, 5)]
    accounts.set_limits(ledger.engine, "ann", {"daily_budget": None})
    assert budgets() == [({"user_id": "ann"}, None)]
    assert budgets() == [({"user_id": "ann"}, None)], "said more than once: an export may get lost"
    monkeypatch.setattr(metrics, "_ENDING_NS", 0)
    assert budgets() == []
    accounts.set_limits(ledger.engine, "ann", accounts.limits({"daily_budget_usd": 2}))
    assert budgets() == [({"user_id": "ann"}, 2)]
