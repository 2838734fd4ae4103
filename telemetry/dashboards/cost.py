"""Cost & usage: who spends what on models, against which budget."""

from __future__ import annotations

from telemetry.dashboards import queries
from telemetry.dashboards.dashboard import Band, Dashboard, address, link, user_id
from telemetry.dashboards.panel_ids import CONTAINER, COST, OVERVIEW
from telemetry.dashboards.panels import bar_gauge, bars, donut, lines, panel, stat
from telemetry.dashboards.style import (
    ANY_IS_ORANGE,
    ANY_IS_RED,
    BLUE,
    CALM,
    GREEN,
    NEARLY_FULL,
    ORANGE,
    RED,
    Scale,
    override_like,
)
from telemetry.dashboards.tables import Column, Key, key_table
from telemetry.dashboards.targets import Ask

_USD = "currencyUSD"
_MANY = " With more than 20 users, the 20 that were highest in the time range."
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
        "Days are UTC days, as budgets are.",
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
        "Since midnight UTC, the selected users together.",
        stat(Ask(queries.COST_TODAY_SELECTED, instant=True), scale=Scale(_USD, CALM)),
    )
    total = panel(
        "cost.total",
        "Cost",
        "In the time range, the selected users together.",
        stat(Ask(queries.COST_RANGE, instant=True), scale=Scale(_USD, CALM)),
    )
    calls = panel(
        "cost.calls",
        "Model calls",
        "Calls in the ledger in the time range, failed ones too.",
        stat(Ask(queries.CALLS_RANGE, instant=True), scale=Scale(steps=CALM), background=False),
    )
    tokens = panel(
        "cost.tokens_total",
        "Tokens",
        "In: all input, cached or not. Out: all output, reasoning included. In the time range.",
        stat(
            Ask(queries.TOKENS_IN_RANGE, "in", instant=True),
            Ask(queries.TOKENS_OUT_RANGE, "out", instant=True),
            scale=Scale(steps=CALM),
            background=False,
            names=True,
        ),
    )
    dispatch = panel(
        "cost.per_dispatch",
        "Per dispatch",
        "The gateway's own model calls divided by the messages its kernel worked on, in the "
        "time range.",
        stat(Ask(queries.COST_PER_DISPATCH, instant=True), scale=Scale(_USD, CALM)),
    )
    quota = panel(
        "cost.quota_highest",
        "Top quota",
        "The share of today's budget that the user nearest to it has spent. Above 90 % alerts.",
        stat(
            Ask(queries.QUOTA_HIGHEST, instant=True),
            scale=Scale("percentunit", NEARLY_FULL, least=0, decimals=0),
        ),
    )
    unpriced = panel(
        "cost.unpriced_count",
        "Unpriced calls",
        "Calls that no price covers, in the time range: their cost is missing here.",
        stat(Ask(queries.UNPRICED_RANGE, instant=True), scale=Scale(steps=ANY_IS_RED)),
    )
    refused = panel(
        "cost.rejections_count",
        "Refused",
        "Calls refused because a budget or rate limit was used up, in the time range.",
        stat(Ask(queries.REJECTIONS_RANGE, instant=True), scale=Scale(steps=ANY_IS_ORANGE)),
    )
    return Band(4, [today, total, calls, tokens, dispatch, quota, unpriced, refused])


def _trend() -> Band:
    daily = panel(
        "cost.daily",
        "Daily cost",
        "A bar a UTC day, by model; today's is still growing. The bars add up to the cost of "
        "their days, exactly.",
        bars(Ask(queries.COST_BY_DAY, "{{model}}", step=_DAY), scale=Scale(_USD, least=0)),
    )
    models = panel(
        "cost.models",
        "Model share",
        "Cost by model in the time range.",
        donut(
            Ask(queries.COST_BY_MODEL, "{{model}}", instant=True),
            scale=Scale(_USD, empty="nothing spent"),
        ),
    )
    return Band(9, [daily, models], widths=[16, 8])


def _users() -> Band:
    asked = queries.USERS
    columns = [
        Column("Cost", asked["Cost"], _USD),
        Column("Cost today", asked["Cost today"], _USD, ((0, BLUE), (10, ORANGE))),
        Column("Budget a day", asked["Budget a day"], _USD),
        Column("Budget used", asked["Budget used"], "percentunit", NEARLY_FULL, bar=True),
        Column("Calls", asked["Calls"]),
        Column("Tokens in", asked["Tokens in"]),
        Column("Tokens out", asked["Tokens out"]),
        Column("Refused", asked["Refused"], steps=ANY_IS_ORANGE),
    ]
    chosen = "${__value.text:percentencode}"
    links = (
        ("Only this user", address(COST, user_id=chosen)),
        ("Their container", address(CONTAINER, handle=chosen)),
    )
    users = panel(
        "cost.users",
        "Users",
        "Cost, calls and tokens are of the time range; cost today and the budget of the "
        "present UTC day. A user opens their container, where they have one.",
        key_table([Key("user_id", "User", links)], columns, sort="Cost", scale=Scale(empty="–")),
    )
    return Band(9, [users])


def _use() -> Band:
    tokens = panel(
        "cost.tokens",
        "Tokens in and out",
        "A pair of bars a UTC day. In: all input, cached or not. Out: all output, reasoning "
        "included.",
        bars(
            Ask(queries.TOKENS_IN_BY_DAY, "in", step=_DAY),
            Ask(queries.TOKENS_OUT_BY_DAY, "out", step=_DAY),
            scale=Scale(least=0),
        ),
    )
    dispatch = panel(
        "cost.per_dispatch_trend",
        "Cost per dispatch",
        "Cost of the gateway's own model calls per message, within each hour before; and "
        "tokens per message (right axis).",
        lines(
            Ask(queries.COST_PER_DISPATCH_TREND, "cost"),
            Ask(queries.GATEWAY_TOKENS_PER_DISPATCH, "{{direction}} tokens"),
            scale=Scale(_USD, least=0, empty="no dispatches"),
            overrides=[override_like("/ tokens$/", unit="short", custom__axisPlacement="right")],
            points=_POINTS,
        ),
    )
    return Band(8, [tokens, dispatch])


def _budgets() -> Band:
    budget = panel(
        "cost.budget",
        "Quota used",
        "Cost today against the day's budget, the 20 nearest to it. At 100 % the proxy refuses "
        "further calls until midnight UTC.",
        bar_gauge(
            Ask(queries.QUOTA_USED, "{{user_id}}", instant=True),
            scale=Scale(
                "percentunit", NEARLY_FULL, least=0, most=1, decimals=0, empty="no budgets set"
            ),
        ),
    )
    today = panel(
        "cost.today",
        "Cost of the day by user",
        "Grows through a UTC day and starts again at midnight. Above $10 alerts." + _MANY,
        lines(
            Ask(queries.COST_TODAY_BY_USER, "{{user_id}}"),
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
        "Calls that no price covers within the 10 minutes before (or since the point before, in "
        "a long time range), by model. Any alerts: add a price.",
        lines(
            Ask(queries.UNPRICED, "{{model}}"),
            scale=Scale(least=0, decimals=0, empty="none"),
            points=_POINTS,
        ),
    )
    rejections = panel(
        "cost.rejections",
        "Refused by quota",
        "Calls refused within the 5 minutes before (or since the point before, in a long time "
        "range), by user. More than 20 in 5 minutes alerts." + _MANY,
        lines(
            Ask(queries.REJECTIONS, "{{user_id}}"),
            scale=Scale(steps=((0, GREEN), (20, ORANGE)), least=0, decimals=0, empty="none"),
            limits=True,
            points=_POINTS,
        ),
    )
    upstream = panel(
        "cost.upstream_errors",
        "Provider errors",
        "Calls a minute that failed at the provider, by kind.",
        lines(
            Ask(queries.UPSTREAM_ERRORS, "{{provider}} {{kind}}"),
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
        "Median and 95 % of the time a call took, by model, all users.",
        lines(
            Ask(queries.MODEL_P50, f"{model} p50"),
            Ask(queries.MODEL_P95, f"{model} p95"),
            scale=Scale("s", least=0),
        ),
    )
    first = panel(
        "cost.first_token",
        "Time to first token",
        "Within which 95 % of streamed answers began, by model.",
        lines(Ask(queries.FIRST_TOKEN_P95, model), scale=Scale("s", least=0)),
    )
    token = panel(
        "cost.token_time",
        "Time per output token",
        "Median after the first token, by model.",
        lines(Ask(queries.TOKEN_TIME_P50, model), scale=Scale("s", least=0)),
    )
    sizes = panel(
        "cost.call_sizes",
        "Tokens a call",
        "95 % of calls had at most so many billable tokens, by model, in and out.",
        lines(Ask(queries.CALL_SIZE_P95, model + " {{gen_ai_token_type}}"), scale=Scale(least=0)),
    )
    return Band(8, [duration, first, token, sizes], title="Models")
