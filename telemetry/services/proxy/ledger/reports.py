"""What was spent: reports over the ledger's calls."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, Literal

from sqlalchemy import Engine, func, select

from telemetry.errors import TelemetryError
from telemetry.services.proxy.ledger.call_ids import first_of
from telemetry.services.proxy.ledger.quota import MS_PER_DAY
from telemetry.services.proxy.ledger.schema import calls
from telemetry.services.proxy.pricing.money import usd

Group = Literal["", "user", "model", "day"]
GROUPS: tuple[Group, ...] = ("", "user", "model", "day")


def since_ms(text: str) -> int:
    """The first moment of a UTC day: ``today`` or YYYY-MM-DD; ``""`` for all time.

    Raises:
        TelemetryError: it is neither.
    """
    if not text:
        return 0
    try:
        day = datetime.now(UTC).date() if text == "today" else date.fromisoformat(text)
    except ValueError:
        raise TelemetryError(
            f"invalid date: since={text!r}", remedy="write YYYY-MM-DD or today", exit_code=64
        ) from None
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def costs(
    engine: Engine, *, user: str = "", model: str = "", since: str = "", group: str = ""
) -> dict[str, Any]:
    """Sum up settled calls, most expensive first (by day: oldest first).

    Args:
        engine: the ledger's.
        user: only this user's.
        model: only this model's.
        since: see `since_ms`.
        group: ``user``, ``model`` or ``day``; ``""`` for each user and model.

    Returns:
        ``{"rows": […], "total_usd": "…"}``; a row has its group's keys, ``calls``,
        ``tokens_in``, ``tokens_out``, ``unpriced`` (calls without a price) and ``cost_usd``,
        an exact decimal string.

    Raises:
        TelemetryError: ``since`` or ``group`` can't be used.
    """
    if group not in GROUPS:
        raise TelemetryError(
            f"group={group!r} is unknown", remedy="group by user, model or day", exit_code=64
        )
    day = (calls.c.started_ms // MS_PER_DAY).label("day")
    by_group: dict[str, list[Any]] = {
        "": [calls.c.user_id, calls.c.model],
        "user": [calls.c.user_id],
        "model": [calls.c.model],
        "day": [day],
    }
    columns = by_group[group]
    c = calls.c
    statement = (
        select(
            *columns,
            func.count().label("calls"),
            func.sum(c.input + c.cache_read + c.cache_write + c.cache_write_1h).label("tokens_in"),
            func.sum(c.output).label("tokens_out"),
            func.sum(c.cost).label("cost"),
            func.count().filter(c.priced.is_(False)).label("unpriced"),
        )
        .where(c.status != "open", c.id >= first_of(since_ms(since)))
        .group_by(*columns)
    )
    if user:
        statement = statement.where(c.user_id == user)
    if model:
        statement = statement.where(c.model == model)
    with engine.connect() as connection:
        found = connection.execute(statement).all()
    rows = []
    total = 0
    for row in sorted(found, key=lambda r: r.day if group == "day" else -int(r.cost or 0)):
        cost = int(row.cost or 0)
        total += cost
        keys = dict(zip([column.name for column in columns], row, strict=False))
        if group == "day":
            keys = {"day": datetime.fromtimestamp(int(row.day) * 86_400, UTC).date().isoformat()}
        rows.append(
            {
                **keys,
                "calls": row.calls,
                "tokens_in": int(row.tokens_in or 0),
                "tokens_out": int(row.tokens_out or 0),
                "unpriced": row.unpriced,
                "cost_usd": usd(cost),
            }
        )
    return {"rows": rows, "total_usd": usd(total)}
