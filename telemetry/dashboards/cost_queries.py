"""PromQL of the panels about cost, budgets and model calls, from the catalog's names."""

from __future__ import annotations

from telemetry import catalog as c
from telemetry.dashboards.selections import LINES, USER, peak
from telemetry.promql.functions import (
    RANGE,
    daily_increase,
    exact_increase,
    or_zero,
    quantile,
    rate,
    recent_increase,
    today,
    top,
    where,
)

_DISPATCH = c.GATEWAY_KERNEL_DISPATCH.prometheus
_COST = c.PROXY_API_COST.prometheus
_CALLS = c.PROXY_API_CALLS.prometheus
_TOKENS = c.PROXY_API_TOKENS.prometheus
_COST_TODAY = c.PROXY_USER_COST_TODAY.prometheus
_BUDGET = c.PROXY_USER_BUDGET.prometheus
# Disjoint kinds of tokens: cached input is not part of input; reasoning is part of output.
_IN = 'kind=~"input|cache_read|cache_write|cache_write_1h"'
_OUT = 'kind="output"'


COST_TODAY = or_zero(f"sum({today(_COST_TODAY, 'user_id')})")
COST_TODAY_SELECTED = or_zero(f"sum({today(_COST_TODAY, 'user_id', USER)})")
COST_RANGE = or_zero(exact_increase(_COST, "", USER))
CALLS_RANGE = or_zero(exact_increase(_CALLS, "", USER))
TOKENS_IN_RANGE = or_zero(exact_increase(_TOKENS, "", f"{USER}, {_IN}"))
TOKENS_OUT_RANGE = or_zero(exact_increase(_TOKENS, "", f"{USER}, {_OUT}"))
COST_PER_HOUR = or_zero(exact_increase(_COST, "", "", "1h"))
COST_BY_DAY = daily_increase(_COST, "model", USER)
COST_BY_MODEL = f"{exact_increase(_COST, 'model', USER)} > 0"
TOKENS_IN_BY_DAY = daily_increase(_TOKENS, "", f"{USER}, {_IN}")
TOKENS_OUT_BY_DAY = daily_increase(_TOKENS, "", f"{USER}, {_OUT}")
_AI_COST = c.GATEWAY_AI_COST.prometheus
_DISPATCHED = 'status!="rejected"'
COST_PER_DISPATCH = or_zero(
    f"{exact_increase(_AI_COST)} / ({exact_increase(_DISPATCH, '', _DISPATCHED)} > 0)"
)
_DISPATCHED_1H = f"({exact_increase(_DISPATCH, '', _DISPATCHED, '1h')} > 0)"
COST_PER_DISPATCH_TREND = f"{exact_increase(_AI_COST, window='1h')} / {_DISPATCHED_1H}"
GATEWAY_TOKENS_PER_DISPATCH = (
    f"{exact_increase(c.GATEWAY_AI_TOKENS.prometheus, 'direction', window='1h')} / "
    f"on () group_left () {_DISPATCHED_1H}"
)


def _quota(matchers: str = "") -> str:
    return (
        f"{today(_COST_TODAY, 'user_id', matchers)} / "
        f"on (user_id) (max by (user_id) ({_BUDGET}{where(matchers)}) > 0)"
    )


QUOTA_HIGHEST_ALL = or_zero(f"max({_quota()})")
QUOTA_HIGHEST = or_zero(f"max({_quota(USER)})")
QUOTA_USED = f"topk({LINES}, {_quota(USER)})"
COST_TODAY_BY_USER = top(
    LINES,
    f"(max by (user_id) ({_COST_TODAY}{where(USER)}))",
    peak(_COST_TODAY, "user_id", USER),
    "user_id",
)
UNPRICED_RANGE = or_zero(exact_increase(c.PROXY_UNPRICED_CALLS.prometheus))
UNPRICED = recent_increase(c.PROXY_UNPRICED_CALLS.prometheus, "10m", "model")
REJECTIONS_RANGE = or_zero(exact_increase(c.PROXY_QUOTA_REJECTIONS.prometheus, "", USER))
_REJECTIONS = c.PROXY_QUOTA_REJECTIONS.prometheus
REJECTIONS = top(
    LINES,
    recent_increase(_REJECTIONS, "5m", "user_id", USER),
    f"sum by (user_id) (increase({_REJECTIONS}{where(USER)}[{RANGE}] @ end()))",
    "user_id",
)
PROVIDER_FAILURES = or_zero(rate(c.PROXY_UPSTREAM_ERRORS.prometheus))
UPSTREAM_ERRORS = rate(c.PROXY_UPSTREAM_ERRORS.prometheus, "provider, kind") + " * 60"

USERS = {
    "Cost": exact_increase(_COST, "user_id", USER),
    "Cost today": today(_COST_TODAY, "user_id", USER),
    "Daily budget": f"max by (user_id) ({_BUDGET}{where(USER)})",
    "Budget used": _quota(USER),
    "Calls": exact_increase(_CALLS, "user_id", USER),
    "Tokens in": exact_increase(_TOKENS, "user_id", f"{USER}, {_IN}"),
    "Tokens out": exact_increase(_TOKENS, "user_id", f"{USER}, {_OUT}"),
    "Refused": exact_increase(_REJECTIONS, "user_id", USER),
}
"""Columns of the users' table: heading and query, by user."""

_MODEL = "gen_ai_request_model"
MODEL_P50 = quantile(0.5, c.GEN_AI_CLIENT_OPERATION_DURATION.prometheus, _MODEL)
MODEL_P95 = quantile(0.95, c.GEN_AI_CLIENT_OPERATION_DURATION.prometheus, _MODEL)
FIRST_TOKEN_P95 = quantile(0.95, c.GEN_AI_SERVER_TIME_TO_FIRST_TOKEN.prometheus, _MODEL)
TOKEN_TIME_P50 = quantile(0.5, c.GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN.prometheus, _MODEL)
CALL_SIZE_P95 = quantile(
    0.95, c.GEN_AI_CLIENT_TOKEN_USAGE.prometheus, f"{_MODEL}, gen_ai_token_type"
)
