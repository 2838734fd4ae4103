"""The commands ``telemetry keys`` and ``telemetry costs``.

They open the ledger themselves, so the proxy need not be running.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from telemetry.system.escapes import escape

if TYPE_CHECKING:
    from sqlalchemy import Engine

Command = Callable[[argparse.Namespace], int]


def add_commands(subparsers: Any) -> None:
    """Add ``keys`` and ``costs``."""
    keys = subparsers.add_parser("keys", help="manage keys and budgets of the proxy's users")
    actions = keys.add_subparsers(title="actions", metavar="ACTION")
    create = actions.add_parser("create", help="create a key; it is displayed only once")
    create.add_argument("user", help="user name; created if it does not exist")
    _add_limits(create)
    _finish(create, _create)
    _finish(actions.add_parser("list", help="list all keys and their users' limits"), _list)
    revoke = actions.add_parser("revoke", help="revoke a key immediately and permanently")
    revoke.add_argument("id", help="the key's id, from `telemetry keys list`")
    _finish(revoke, _revoke)
    budget = actions.add_parser("budget", help="change a user's limits")
    budget.add_argument("user", help="user name")
    _add_limits(budget)
    _finish(budget, _budget)

    costs = subparsers.add_parser("costs", help="show costs by user and model")
    costs.add_argument("--user", default="", help="only this user (default: all)")
    costs.add_argument("--model", default="", help="only this model (default: all)")
    costs.add_argument(
        "--since",
        default="",
        metavar="DAY",
        help="first UTC day, YYYY-MM-DD or today (default: all)",
    )
    costs.add_argument(
        "--group",
        default="",
        choices=("user", "model", "day"),
        help="group by this only (default: user and model)",
    )
    _finish(costs, _costs)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    for flag, dest, shown, meaning in (
        ("--daily-usd", "daily_budget_usd", "USD", "budget of a UTC day"),
        ("--monthly-usd", "monthly_budget_usd", "USD", "budget of a UTC month"),
        ("--requests-per-minute", "requests_per_minute", "N", "rate limit"),
        ("--tokens-per-minute", "tokens_per_minute", "N", "rate limit"),
    ):
        parser.add_argument(
            flag, dest=dest, metavar=shown, help=f"{meaning}, or `none` to remove it"
        )


def _finish(parser: argparse.ArgumentParser, command: Command) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=command)


@contextmanager
def _ledger() -> Iterator[Engine]:
    from telemetry.services.proxy.ledger.migrations import open_ledger
    from telemetry.services.proxy.ledger.stores import parse_url
    from telemetry.services.proxy.settings import Settings

    engine = open_ledger(parse_url(Settings.from_env(os.environ).ledger_url))
    try:
        yield engine
    finally:
        engine.dispose()


def _limits(args: argparse.Namespace) -> dict[str, int | None]:
    from telemetry.services.proxy.ledger import accounts

    given: dict[str, Any] = {}
    for name in accounts.FIELDS:
        value = getattr(args, name)
        if value is None:
            continue
        if value == "none":
            given[name] = None
        elif name.endswith("_usd"):
            given[name] = value
        else:
            given[name] = int(value) if value.isdigit() else value
    return accounts.limits(given)


def _create(args: argparse.Namespace) -> int:
    from telemetry.services.proxy.ledger import accounts

    limits = _limits(args)
    with _ledger() as engine:
        made = accounts.create_key(engine, args.user, limits)
    if args.json:
        print(json.dumps({"id": made.id, "user_id": made.user_id, "key": made.key}))
    else:
        of = escape(made.user_id)
        print(f"{made.key}\n\nKey {made.id} of {of}. Store it: it is not shown again.")
    return 0


def _list(args: argparse.Namespace) -> int:
    from telemetry.services.proxy.ledger import accounts

    with _ledger() as engine:
        found = accounts.list_keys(engine)
    if args.json:
        print(json.dumps(found))
        return 0
    _table(
        ["key", "ends", "user", "created", "state"],
        [
            [
                key["id"],
                key["hint"][-5:],
                key["user_id"],
                _day(key["created_ms"]),
                "revoked" if key["revoked_ms"] else "valid",
            ]
            for key in found
        ],
        empty="no keys yet; create one: telemetry keys create USER",
    )
    # A user's limits apply to all their keys together.
    users = {key["user_id"]: key for key in found}
    if users:
        _limits_table(list(users.values()))
    return 0


def _revoke(args: argparse.Namespace) -> int:
    from telemetry.services.proxy.ledger import accounts

    with _ledger() as engine:
        changed = accounts.revoke_key(engine, args.id)
    if args.json:
        print(json.dumps({"id": args.id, "revoked": True}))
    else:
        print(f"Key {escape(args.id)} {'is revoked' if changed else 'was revoked before'}.")
    return 0


def _budget(args: argparse.Namespace) -> int:
    from telemetry.services.proxy.ledger import accounts

    limits = _limits(args)
    with _ledger() as engine:
        found = accounts.set_limits(engine, args.user, limits)
    if args.json:
        print(json.dumps(found))
        return 0
    _limits_table([found])
    return 0


def _costs(args: argparse.Namespace) -> int:
    from telemetry.services.proxy.ledger.reports import costs

    with _ledger() as engine:
        report = costs(engine, user=args.user, model=args.model, since=args.since, group=args.group)
    if args.json:
        print(json.dumps(report))
        return 0
    keys = {"": ["user_id", "model"], "user": ["user_id"], "model": ["model"], "day": ["day"]}
    shown = keys[args.group]
    rows = [
        [
            *(row[key] for key in shown),
            f"{row['calls']:,}",
            f"{row['tokens_in']:,}",
            f"{row['tokens_out']:,}",
            f"{row['unpriced']:,}" if row["unpriced"] else "",
            row["cost_usd"],
        ]
        for row in report["rows"]
    ]
    names = [*shown, "calls", "tokens in", "tokens out", "unpriced", "USD"]
    total = ["total", *[""] * (len(shown) + 3), report["total_usd"]]
    _table(names, rows, numbers=5, empty="no calls in the ledger", total=total)
    return 0


def _limits_table(users: list[dict[str, Any]]) -> None:
    from telemetry.services.proxy.ledger import accounts

    rows = [[user["user_id"], *(_shown(user[name]) for name in accounts.FIELDS)] for user in users]
    _table(["user", "USD/day", "USD/month", "req/min", "tok/min"], rows, numbers=4)


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()


def _shown(limit: object) -> str:
    return "–" if limit is None else str(limit)


def _table(
    columns: list[str],
    rows: list[list[str]],
    *,
    numbers: int = 0,
    empty: str = "",
    total: Sequence[str] = (),
) -> None:
    """Print a table whose last ``numbers`` columns are numbers."""
    from telemetry.system.terminal import Terminal, plain_table

    terminal = Terminal()
    if not rows:
        terminal.print(empty)
        return
    names = ("user", "user_id", "model")
    table = plain_table(
        *columns, numbers=columns[len(columns) - numbers :], folded=names, total=total
    )
    for row in rows:
        table.add_row(*row)
    terminal.print(table)
    terminal.print()
