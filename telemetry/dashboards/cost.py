"""Cost & usage: who spends what on models, against which budget."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from telemetry.dashboards import queries
from telemetry.dashboards.dashboard import Band, address, link, user_id
from telemetry.dashboards.dashboard import build as frame
from telemetry.dashboards.overview import MEMORY_STEPS
from telemetry.dashboards.panel_ids import CONTAINER, COST, OVERVIEW
from telemetry.dashboards.panels import About, bar_gauge, donut, lines, stat_panel
from telemetry.dashboards.style import BLUE, CALM, GREEN, ORANGE, RED, override_like
from telemetry.dashboards.tables import Column, key_table
from telemetry.dashboards.targets import Ask

_USD = "currencyUSD"
_MANY = " With more than 20 users, the 20 that were highest in the time range."
_DAY = "1d"
# A point every 10 minutes of the usual 7 days. With one a pixel, half an hour would lie between
# two, and a new stack's graphs would stay empty for as long.
_POINTS = 7 * 24 * 6


def build() -> Dashboard:
    """The dashboard. Times are UTC, as the proxy's days and budgets are."""
    return frame(
        COST,
        "What model calls cost, by day, user and model, from the proxy's ledger. "
        "Days are UTC days, as budgets are.",
        [_totals(), _trend(), _users(), _use(), _budgets(), _refused(), _models()],
        [user_id()],
        since="now-7d",
        refresh="5m",
        timezone="utc",
        links=[link("Overview", OVERVIEW, "All containers")],
        events=False,
    )


def _totals() -> Band:
    today = About(
        "cost.total_today", "Cost today",
        "Since midnight UTC, the selected users together.", _USD, CALM,
    )  # fmt: skip
    total = About(
        "cost.total", "Cost",
        "In the time range, the selected users together.", _USD, CALM,
    )  # fmt: skip
    calls = About(
        "cost.calls", "Model calls",
        "Calls in the ledger in the time range, failed ones too.", steps=CALM,
    )  # fmt: skip
    tokens = About(
        "cost.tokens_total", "Tokens",
        "In: all input, cached or not. Out: all output, reasoning included. In the time range.",
        steps=CALM,
    )  # fmt: skip
    dispatch = About(
        "cost.per_dispatch", "Per dispatch",
        "The gateway's own model calls divided by the messages its kernel worked on, in the "
        "time range.", _USD, CALM,
    )  # fmt: skip
    quota = About(
        "cost.quota_highest", "Top quota",
        "The share of today's budget that the user nearest to it has spent. Above 90 % alerts.",
        "percentunit", MEMORY_STEPS, least=0, decimals=0,
    )  # fmt: skip
    unpriced = About(
        "cost.unpriced_count", "Unpriced calls",
        "Calls that no price covers, in the time range: their cost is missing here.",
        steps=((0, GREEN), (1, RED)),
    )  # fmt: skip
    refused = About(
        "cost.rejections_count", "Refused",
        "Calls refused because a budget or rate limit was used up, in the time range.",
        steps=((0, GREEN), (1, ORANGE)),
    )  # fmt: skip
    return Band(
        4,
        [
            (3, stat_panel(today, Ask(queries.COST_TODAY_SELECTED, instant=True))),
            (3, stat_panel(total, Ask(queries.COST_RANGE, instant=True))),
            (3, stat_panel(calls, Ask(queries.CALLS_RANGE, instant=True), background=False)),
            (
                3,
                stat_panel(
                    tokens,
                    Ask(queries.TOKENS_IN_RANGE, "in", instant=True),
                    Ask(queries.TOKENS_OUT_RANGE, "out", instant=True),
                    background=False,
                    names=True,
                ),
            ),
            (3, stat_panel(dispatch, Ask(queries.COST_PER_DISPATCH, instant=True))),
            (3, stat_panel(quota, Ask(queries.QUOTA_HIGHEST, instant=True))),
            (3, stat_panel(unpriced, Ask(queries.UNPRICED_RANGE, instant=True))),
            (3, stat_panel(refused, Ask(queries.REJECTIONS_RANGE, instant=True))),
        ],
    )


def _trend() -> Band:
    daily = About(
        "cost.daily", "Daily cost",
        "A bar a UTC day, by model; today's is still growing. The bars add up to the cost of "
        "their days, exactly.", _USD, least=0,
    )  # fmt: skip
    models = About(
        "cost.models", "Model share",
        "Cost by model in the time range.", _USD, empty="nothing spent",
    )  # fmt: skip
    return Band(
        9,
        [
            (
                16,
                lines(
                    daily,
                    Ask(queries.COST_BY_DAY, "{{model}}", step=_DAY),
                    stacked=True,
                    bars=True,
                ),
            ),
            (8, donut(models, Ask(queries.COST_BY_MODEL, "{{model}}", instant=True))),
        ],
    )


def _users() -> Band:
    about = About(
        "cost.users", "Users",
        "Cost, calls and tokens are of the time range; cost today and the budget of the "
        "present UTC day. A user opens their container, where they have one.",
        empty="–",
    )  # fmt: skip
    table = queries.USERS
    columns = [
        Column("Cost", table["Cost"], _USD),
        Column("Cost today", table["Cost today"], _USD, ((0, BLUE), (10, ORANGE))),
        Column("Budget a day", table["Budget a day"], _USD),
        Column("Budget used", table["Budget used"], "percentunit", MEMORY_STEPS, bar=True),
        Column("Calls", table["Calls"]),
        Column("Tokens in", table["Tokens in"]),
        Column("Tokens out", table["Tokens out"]),
        Column("Refused", table["Refused"], steps=((0, GREEN), (1, ORANGE))),
    ]
    user = "${__value.text:percentencode}"
    links = {
        "user_id": (
            ("Only this user", address(COST, user_id=user)),
            ("Their container", address(CONTAINER, handle=user)),
        )
    }
    return Band(9, [(24, key_table(about, {"user_id": "User"}, columns, links, "Cost"))])


def _use() -> Band:
    tokens = About(
        "cost.tokens", "Tokens in and out",
        "A pair of bars a UTC day. In: all input, cached or not. Out: all output, reasoning "
        "included.", least=0,
    )  # fmt: skip
    dispatch = About(
        "cost.per_dispatch_trend", "Cost per dispatch",
        "Cost of the gateway's own model calls per message, within each hour before; and "
        "tokens per message (right axis).", _USD, least=0, empty="no dispatches",
    )  # fmt: skip
    return Band(
        8,
        [
            (
                12,
                lines(
                    tokens,
                    Ask(queries.TOKENS_IN_BY_DAY, "in", step=_DAY),
                    Ask(queries.TOKENS_OUT_BY_DAY, "out", step=_DAY),
                    stacked=True,
                    bars=True,
                ),
            ),
            (
                12,
                lines(
                    dispatch,
                    Ask(queries.COST_PER_DISPATCH_TREND, "cost"),
                    Ask(queries.GATEWAY_TOKENS_PER_DISPATCH, "{{direction}} tokens"),
                    overrides=[
                        override_like("/ tokens$/", unit="short", custom__axisPlacement="right")
                    ],
                    points=_POINTS,
                ),
            ),
        ],
    )


def _budgets() -> Band:
    budget = About(
        "cost.budget", "Quota used",
        "Cost today against the day's budget, the 20 nearest to it. At 100 % the proxy refuses "
        "further calls until midnight UTC.",
        "percentunit", MEMORY_STEPS, least=0, most=1, decimals=0, empty="no budgets set",
    )  # fmt: skip
    today = About(
        "cost.today", "Cost of the day by user",
        "Grows through a UTC day and starts again at midnight. Above $10 alerts." + _MANY,
        _USD, ((0, GREEN), (10, RED)), least=0, empty="nothing spent",
    )  # fmt: skip
    return Band(
        9,
        [
            (8, bar_gauge(budget, Ask(queries.QUOTA_USED, "{{user_id}}", instant=True))),
            (
                16,
                lines(
                    today,
                    Ask(queries.COST_TODAY_BY_USER, "{{user_id}}"),
                    limits=True,
                    points=_POINTS,
                ),
            ),
        ],
    )


def _refused() -> Band:
    unpriced = About(
        "cost.unpriced", "Unpriced calls",
        "Calls that no price covers within the 10 minutes before (or since the point before, in "
        "a long time range), by model. Any alerts: add a price.",
        least=0, decimals=0, empty="none",
    )  # fmt: skip
    rejections = About(
        "cost.rejections", "Refused by quota",
        "Calls refused within the 5 minutes before (or since the point before, in a long time "
        "range), by user. More than 20 in 5 minutes alerts." + _MANY,
        steps=((0, GREEN), (20, ORANGE)), least=0, decimals=0, empty="none",
    )  # fmt: skip
    upstream = About(
        "cost.upstream_errors", "Provider errors",
        "Calls a minute that failed at the provider, by kind.", "opm", least=0, empty="none",
    )  # fmt: skip
    return Band(
        7,
        [
            (8, lines(unpriced, Ask(queries.UNPRICED, "{{model}}"), points=_POINTS)),
            (
                8,
                lines(
                    rejections,
                    Ask(queries.REJECTIONS, "{{user_id}}"),
                    limits=True,
                    points=_POINTS,
                ),
            ),
            (
                8,
                lines(
                    upstream,
                    Ask(queries.UPSTREAM_ERRORS, "{{provider}} {{kind}}"),
                    points=_POINTS,
                ),
            ),
        ],
    )


def _models() -> Band:
    duration = About(
        "cost.duration", "Model call duration",
        "Median and 95 % of the time a call took, by model, all users.", "s", least=0,
    )  # fmt: skip
    first = About(
        "cost.first_token", "Time to first token",
        "Within which 95 % of streamed answers began, by model.", "s", least=0,
    )  # fmt: skip
    token = About(
        "cost.token_time", "Time per output token",
        "Median after the first token, by model.", "s", least=0,
    )  # fmt: skip
    sizes = About(
        "cost.call_sizes", "Tokens a call",
        "95 % of calls had at most so many billable tokens, by model, in and out.", least=0,
    )  # fmt: skip
    model = "{{gen_ai_request_model}}"
    return Band(
        8,
        [
            (
                6,
                lines(
                    duration,
                    Ask(queries.MODEL_P50, f"{model} p50"),
                    Ask(queries.MODEL_P95, f"{model} p95"),
                ),
            ),
            (6, lines(first, Ask(queries.FIRST_TOKEN_P95, model))),
            (6, lines(token, Ask(queries.TOKEN_TIME_P50, model))),
            (6, lines(sizes, Ask(queries.CALL_SIZE_P95, f"{model} {{{{gen_ai_token_type}}}}"))),
        ],
        "Models",
    )
