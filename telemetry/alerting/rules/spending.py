"""Alerts about money: cost, budgets, quotas, prices.

The proxy's ledger is the source of all amounts; its series continue after a restart of the proxy.
"""

from __future__ import annotations

from telemetry import catalog
from telemetry.alerting.rule import VALUE, Group, Rule, count
from telemetry.alerting.thresholds import Thresholds
from telemetry.promql.functions import rise
from telemetry.system.units import number

SPENDING = Group("spending", 10)

_COST_TODAY = catalog.PROXY_USER_COST_TODAY.prometheus
_BUDGET = catalog.PROXY_USER_BUDGET.prometheus
_UNPRICED = catalog.PROXY_UNPRICED_CALLS.prometheus
_REJECTIONS = catalog.PROXY_QUOTA_REJECTIONS.prometheus

_USER = (("user_id", "user_id"),)


def rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    """Return the spending rules with these thresholds."""
    return (
        Rule(
            name="HighCostRate",
            source="prometheus",
            group=SPENDING,
            expression=f"max by (user_id) ({_COST_TODAY})",
            comparison=">",
            threshold=thresholds.cost_usd,
            for_s=0,
            severity="warning",
            labels=("user_id",),
            summary="{{ .Labels.user_id }} has high costs today",
            description=(
                "Model calls of {{ .Labels.user_id }} have cost "
                f'{{{{ printf "%.2f" {VALUE} }}}} USD since midnight UTC, '
                f"more than {number(thresholds.cost_usd)} USD."
            ),
            value=f'{{{{ printf "%.2f" {VALUE} }}}} USD today',
            panel="cost.today",
            no_data="OK",
            on_error="Error",
            states_reason="No series means that no user has spent anything.",
            variables=_USER,
        ),
        Rule(
            name="BudgetNearlySpent",
            source="prometheus",
            group=SPENDING,
            expression=(f"max by (user_id) ({_COST_TODAY})\n/\n(max by (user_id) ({_BUDGET}) > 0)"),
            comparison=">",
            threshold=thresholds.budget_percent / 100,
            for_s=0,
            severity="warning",
            labels=("user_id",),
            summary="{{ .Labels.user_id }} has nearly spent today's budget",
            description=(
                f"{{{{ .Labels.user_id }}}} has used {{{{ {VALUE} | humanizePercentage }}}} of "
                f"today's budget, more than {number(thresholds.budget_percent)} %. "
                "At 100 % the proxy refuses further calls until midnight UTC."
            ),
            value=f"{{{{ {VALUE} | humanizePercentage }}}} of the budget",
            panel="cost.budget",
            no_data="OK",
            on_error="Error",
            states_reason="A user without a budget has no such series.",
            variables=_USER,
        ),
        Rule(
            name="UnpricedModel",
            source="prometheus",
            group=SPENDING,
            expression=rise(_UNPRICED, "10m", by="model"),
            comparison=">",
            threshold=0,
            for_s=0,
            severity="warning",
            labels=("model",),
            summary="No price covers the model {{ .Labels.model }}",
            description=(
                "The model {{ .Labels.model }} was served without a price: "
                f"{count('call')} in the last 10 minutes whose cost is not counted."
            ),
            value=f"{count('call')} in 10 m",
            panel="cost.unpriced",
            no_data="OK",
            on_error="Error",
            states_reason="No series means that every call had a price.",
        ),
        Rule(
            name="QuotaRejections",
            source="prometheus",
            group=SPENDING,
            expression=rise(_REJECTIONS, "5m", by="user_id"),
            comparison=">",
            threshold=thresholds.quota_rejections,
            for_s=0,
            severity="warning",
            labels=("user_id",),
            summary="{{ .Labels.user_id }} keeps exceeding a quota",
            description=(
                f'The proxy refused {{{{ printf "%.0f" {VALUE} }}}} calls of '
                "{{ .Labels.user_id }} in the last 5 minutes, more than "
                f"{number(thresholds.quota_rejections)}."
            ),
            value=f"{count('call')} in 5 m",
            panel="cost.rejections",
            no_data="OK",
            on_error="Error",
            states_reason="No series means that no call was refused.",
            variables=_USER,
        ),
    )
