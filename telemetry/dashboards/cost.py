"""Cost & usage: who spends what on models, against which budget."""

from __future__ import annotations

from telemetry.dashboards import cost_queries as queries
from telemetry.dashboards.dashboard import Band, Dashboard, address, link, user_id
from telemetry.dashboards.panel_ids import CONTAINER, COST, OVERVIEW
from telemetry.dashboards.panels import bar_gauge, bars, donut, lines, panel, stat
from telemetry.dashboards.style import (
    ANY_IS_ORANGE,
    ANY_IS_RED,
    BLUE,
    GREEN,
    NEARLY_FULL,
    NEUTRAL,
    ORANGE,
    RED,
    Scale,
    override_like,
)
from telemetry.dashboards.tables import Column, Key, key_table
from telemetry.dashboards.targets import Target

_USD = "currencyUSD"
_MANY = " With more than 20 users, the 20 highest in the time range."
_DAY = "1d"
# A point every 10 minutes of the usual 7 days. With one a pixel, points would be half an hour
# apart, and a new stack's graphs would stay empty for as long.
_POINTS = 7 * 24 * 6


def build() -> Dashboard:
    """Declare the dashboard. Times are UTC, like the proxy's days and budgets."""
    return Dashboard(
        COST,
        "Cost & usage",
        "What model calls cost, by day, user and model, from the proxy's ledger. "
        "Days and budgets are in UTC.",
        [_totals(), _trend(), _users(), _use(), _budgets(), _refused(), _models()],
        [user_id()],
        [link("Overview", OVERVIEW, "All containers")],
        since="now-7d",
        refresh="5m",
        timezone="utc",
        events=False,
    )


def _totals() -> Band:
    today = panel(
        "cost.total_today",
        "Cost today",
        "Cost since midnight UTC, the selected users together.",
        stat(Target(queries.COST_TODAY_SELECTED, instant=True), scale=Scale(_USD, NEUTRAL)),
    )
    total = panel(
        "cost.total",
        "Cost",
        "Cost in the time range, the selected users together.",
        stat(Target(queries.COST_RANGE, instant=True), scale=Scale(_USD, NEUTRAL)),
    )
    calls = panel(
        "cost.calls",
        "Model calls",
        "Calls in the ledger in the time range, including failed ones.",
        stat(
            Target(queries.CALLS_RANGE, instant=True), scale=Scale(steps=NEUTRAL), background=False
        ),
    )
    tokens = panel(
        "cost.tokens_total",
        "Tokens",
        "Tokens in the time range. In: all input, cached or not. Out: all output, including "
        "reasoning.",
        stat(
            Target(queries.TOKENS_IN_RANGE, "in", instant=True),
            Target(queries.TOKENS_OUT_RANGE, "out", instant=True),
            scale=Scale(steps=NEUTRAL),
            background=False,
            names=True,
        ),
    )
    dispatch = panel(
        "cost.per_dispatch",
        "Per dispatch",
        "Cost of the gateway's own model calls per dispatch, in the time range.",
        stat(Target(queries.COST_PER_DISPATCH, instant=True), scale=Scale(_USD, NEUTRAL)),
    )
    quota = panel(
        "cost.quota_highest",
        "Top budget use",
        "Share of today's budget spent by the user nearest to the limit. An alert fires above "
        "90 %.",
        stat(
            Target(queries.QUOTA_HIGHEST, instant=True),
            scale=Scale("percentunit", NEARLY_FULL, least=0, decimals=0),
        ),
    )
    unpriced = panel(
        "cost.unpriced_count",
        "Unpriced calls",
        "Calls in the time range that no price covers. The costs shown here don't include them.",
        stat(Target(queries.UNPRICED_RANGE, instant=True), scale=Scale(steps=ANY_IS_RED)),
    )
    refused = panel(
        "cost.rejections_count",
        "Refused",
        "Calls refused in the time range because a budget or rate limit was used up.",
        stat(Target(queries.REJECTIONS_RANGE, instant=True), scale=Scale(steps=ANY_IS_ORANGE)),
    )
    return Band(4, [today, total, calls, tokens, dispatch, quota, unpriced, refused])


def _trend() -> Band:
    daily = panel(
        "cost.daily",
        "Daily cost",
        "A bar for each UTC day, by model; today's still grows. The bars add up exactly to the "
        "cost of their days.",
        bars(Target(queries.COST_BY_DAY, "{{model}}", step=_DAY), scale=Scale(_USD, least=0)),
    )
    models = panel(
        "cost.models",
        "Model share",
        "Cost by model in the time range.",
        donut(
            Target(queries.COST_BY_MODEL, "{{model}}", instant=True),
            scale=Scale(_USD, empty="nothing spent"),
        ),
    )
    return Band(9, [daily, models], widths=[16, 8])


def _users() -> Band:
    query = queries.USERS
    columns = [
        Column("Cost", query["Cost"], _USD),
        Column("Cost today", query["Cost today"], _USD, ((0, BLUE), (10, ORANGE))),
        Column("Daily budget", query["Daily budget"], _USD),
        Column("Budget used", query["Budget used"], "percentunit", NEARLY_FULL, bar=True),
        Column("Calls", query["Calls"]),
        Column("Tokens in", query["Tokens in"]),
        Column("Tokens out", query["Tokens out"]),
        Column("Refused", query["Refused"], steps=ANY_IS_ORANGE),
    ]
    chosen = "${__value.text:percentencode}"
    links = (
        ("Only this user", address(COST, user_id=chosen)),
        ("Their container", address(CONTAINER, handle=chosen)),
    )
    users = panel(
        "cost.users",
        "Users",
        "Cost, calls and tokens are for the time range, cost today and the budget for the "
        "current UTC day. A user's name opens the user's container, if there is one.",
        key_table([Key("user_id", "User", links)], columns, sort="Cost", scale=Scale(empty="–")),
    )
    return Band(9, [users])


def _use() -> Band:
    tokens = panel(
        "cost.tokens",
        "Tokens in and out",
        "A bar for each UTC day. In: all input, cached or not. Out: all output, including "
        "reasoning.",
        bars(
            Target(queries.TOKENS_IN_BY_DAY, "in", step=_DAY),
            Target(queries.TOKENS_OUT_BY_DAY, "out", step=_DAY),
            scale=Scale(least=0),
        ),
    )
    dispatch = panel(
        "cost.per_dispatch_trend",
        "Cost per dispatch",
        "Cost of the gateway's own model calls per dispatch, within the previous hour; and "
        "tokens per dispatch (right axis).",
        lines(
            Target(queries.COST_PER_DISPATCH_TREND, "cost"),
            Target(queries.GATEWAY_TOKENS_PER_DISPATCH, "{{direction}} tokens"),
            scale=Scale(_USD, least=0, empty="no dispatches"),
            overrides=[override_like("/ tokens$/", unit="short", custom__axisPlacement="right")],
            points=_POINTS,
        ),
    )
    return Band(8, [tokens, dispatch])


def _budgets() -> Band:
    budget = panel(
        "cost.budget",
        "Budget used",
        "Cost today as a share of the day's budget, for the 20 users nearest to their limit. At "
        "100 % the proxy refuses further calls until midnight UTC.",
        bar_gauge(
            Target(queries.QUOTA_USED, "{{user_id}}", instant=True),
            scale=Scale(
                "percentunit", NEARLY_FULL, least=0, most=1, decimals=0, empty="no budgets set"
            ),
        ),
    )
    today = panel(
        "cost.today",
        "Cost today by user",
        "Grows through a UTC day and starts again at midnight. An alert fires above $10." + _MANY,
        lines(
            Target(queries.COST_TODAY_BY_USER, "{{user_id}}"),
            scale=Scale(_USD, ((0, GREEN), (10, RED)), least=0, empty="nothing spent"),
            limits=True,
            points=_POINTS,
        ),
    )
    return Band(9, [budget, today], widths=[8, 16])


def _refused() -> Band:
    unpriced = panel(
        "cost.unpriced",
        "Unpriced calls",
        "Calls that no price covers within the previous 10 minutes (or since the previous point, "
        "if that is longer), by model. Any fires an alert: add a price.",
        lines(
            Target(queries.UNPRICED, "{{model}}"),
            scale=Scale(least=0, decimals=0, empty="none"),
            points=_POINTS,
        ),
    )
    rejections = panel(
        "cost.rejections",
        "Refused by quota",
        "Calls refused within the previous 5 minutes (or since the previous point, if that is "
        "longer), by user. An alert fires at more than 20 in 5 minutes." + _MANY,
        lines(
            Target(queries.REJECTIONS, "{{user_id}}"),
            scale=Scale(steps=((0, GREEN), (20, ORANGE)), least=0, decimals=0, empty="none"),
            limits=True,
            points=_POINTS,
        ),
    )
    upstream = panel(
        "cost.upstream_errors",
        "Provider errors",
        "Calls per minute that failed at the provider, by kind.",
        lines(
            Target(queries.UPSTREAM_ERRORS, "{{provider}} {{kind}}"),
            scale=Scale("opm", least=0, empty="none"),
            points=_POINTS,
        ),
    )
    return Band(7, [unpriced, rejections, upstream])


def _models() -> Band:
    model = "{{gen_ai_request_model}}"
    duration = panel(
        "cost.duration",
        "Model call duration",
        "Median and 95th percentile of the call duration, by model, all users together.",
        lines(
            Target(queries.MODEL_P50, f"{model} p50"),
            Target(queries.MODEL_P95, f"{model} p95"),
            scale=Scale("s", least=0),
        ),
    )
    first = panel(
        "cost.first_token",
        "Time to first token",
        "95th percentile of the time to the first token of a streamed answer, by model.",
        lines(Target(queries.FIRST_TOKEN_P95, model), scale=Scale("s", least=0)),
    )
    token = panel(
        "cost.token_time",
        "Time per output token",
        "Median time per output token after the first, by model.",
        lines(Target(queries.TOKEN_TIME_P50, model), scale=Scale("s", least=0)),
    )
    sizes = panel(
        "cost.call_sizes",
        "Tokens per call",
        "95th percentile of the billable tokens per call, by model, in and out.",
        lines(
            Target(queries.CALL_SIZE_P95, model + " {{gen_ai_token_type}}"), scale=Scale(least=0)
        ),
    )
    return Band(8, [duration, first, token, sizes], title="Models")
