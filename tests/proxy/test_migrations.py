"""The ledger's schema: version 1 is adopted, later ones are reached by migrations alone.

``version1`` has ledgers as the program wrote them before migrations existed, dumped as SQL by
sqlite3's ``iterdump`` and by ``pg_dump --inserts``: two settled calls and one refused by the
provider, of two users with three keys, one of them revoked.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect

from telemetry.errors import TelemetryError
from telemetry.services.proxy.ledger import accounts, schema
from telemetry.services.proxy.ledger.migrations import MIGRATIONS, open_ledger
from telemetry.services.proxy.ledger.reports import costs
from telemetry.services.proxy.ledger.stores import parse_url
from tests.proxy.conftest import MESSAGE, Running

Start = Callable[..., Running]

OLD = Path(__file__).parent / "version1"
ANN = "tk-Tty2mb8VlpI5IiME7Vnro6Ansf0uukhJvEIkPikqPE4"
REVOKED = "tk-CiMgQp44aGH6xrNQ6yBoVV3dQj6cP_ADzqu_34ekdtc"
CALL = 915602003718049792


@pytest.fixture
def old_url(ledger_url: str) -> str:
    """A ledger of version 1."""
    url = parse_url(ledger_url)
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as connection:
            connection.executescript((OLD / "ledger.sqlite.sql").read_text())
    else:
        import psycopg  # only these tests need it

        with psycopg.connect(ledger_url, autocommit=True) as connection:
            connection.execute((OLD / "ledger.postgresql.sql").read_bytes())
    return ledger_url


def columns(engine: Engine) -> dict[str, dict[str, tuple[str, bool]]]:
    """The type of each column, and whether it may be NULL."""
    inspector = inspect(engine)
    return {
        table: {
            column["name"]: (column["type"].compile(engine.dialect), column["nullable"])
            for column in inspector.get_columns(table)
        }
        for table in inspector.get_table_names()
    }


def indexes(engine: Engine) -> dict[str, list[Any]]:
    """The keys and indexes of each table."""
    inspector = inspect(engine)
    return {
        table: [
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted(
                index["name"] or ""
                for index in inspector.get_indexes(table)
                if not index.get("duplicates_constraint")
            ),
            [unique["column_names"] for unique in inspector.get_unique_constraints(table)],
            [key["referred_columns"] for key in inspector.get_foreign_keys(table)],
        ]
        for table in inspector.get_table_names()
    }


def test_ledger_of_version_1_is_reported_in_full(old_url: str, start_proxy: Start) -> None:
    proxy = start_proxy()
    engine = proxy.proxy.ledger.engine
    found = {row["id"]: (row["user_id"], row["revoked_ms"]) for row in accounts.list_keys(engine)}
    assert found == {
        "key_3eeb0679522477f9": ("ann", None),
        "key_dd4cce447da2cacb": ("bob", None),
        "key_0b87b054ab053a07": ("bob", 1796133328765),
    }
    (ann, bob) = costs(engine)["rows"]
    assert (ann["user_id"], ann["calls"], ann["cost_usd"]) == ("ann", 1, "0.001234567891")
    assert (bob["user_id"], bob["calls"], bob["cost_usd"]) == ("bob", 2, "0.000052")
    call = proxy.proxy.ledger.call(CALL)
    assert call is not None
    assert call["tokens"] == {
        "input": 100,
        "output": 42,
        "cache_read": 20,
        "cache_write": 5,
        "reasoning": 7,
    }
    user = proxy.user("ann")
    assert (user.daily_budget, user.requests_per_minute) == (5 * 10**12, 100)
    assert user.month_spent == 1_234_567_891


def test_calls_are_made_on_top_of_version_1(old_url: str, start_proxy: Start) -> None:
    proxy = start_proxy()
    assert proxy.post("/v1/messages", ANN, MESSAGE).status_code == 200
    assert proxy.post("/v1/messages", REVOKED, MESSAGE).status_code == 401
    assert len(proxy.calls(user_id="ann")) == 2
    (ann, _) = costs(proxy.proxy.ledger.engine)["rows"]
    assert ann["calls"] == 2
    assert proxy.key("carl")


def test_adopted_ledger_has_the_schema_of_a_new_one(old_url: str, tmp_path: Path) -> None:
    adopted = open_ledger(parse_url(old_url))
    new = open_ledger(parse_url(f"sqlite:///{tmp_path / 'new.db'}"))
    if adopted.dialect.name == "sqlite":
        assert columns(adopted) == columns(new)
    assert indexes(adopted) == indexes(new)
    adopted.dispose()
    new.dispose()


def test_migrations_make_the_tables_that_queries_use(ledger_url: str) -> None:
    engine = open_ledger(parse_url(ledger_url))
    found = columns(engine)
    del found["schema_version"]
    assert found == {
        table.name: {
            column.name: (column.type.compile(engine.dialect), bool(column.nullable))
            for column in table.columns
        }
        for table in schema.metadata.sorted_tables
    }
    engine.dispose()


@pytest.mark.parametrize("written_by", ["nobody", "version 1"])
def test_processes_that_open_a_ledger_together_migrate_it_once(
    ledger_url: str, written_by: str, request: pytest.FixtureRequest
) -> None:
    if written_by == "version 1":
        request.getfixturevalue("old_url")
    openers = 6
    together = threading.Barrier(openers)

    def open_it() -> None:
        together.wait()
        open_ledger(parse_url(ledger_url)).dispose()

    with ThreadPoolExecutor(openers) as pool:
        for future in [pool.submit(open_it) for _ in range(openers)]:
            future.result()
    engine = open_ledger(parse_url(ledger_url))
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT version FROM schema_version").fetchall()
    engine.dispose()
    assert rows == [(len(MIGRATIONS),)]


def test_ledger_of_a_newer_version_is_refused(ledger_url: str) -> None:
    engine = open_ledger(parse_url(ledger_url))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE schema_version SET version = 1000")
    engine.dispose()
    with pytest.raises(TelemetryError, match=r"newer version .* version 1000") as refused:
        open_ledger(parse_url(ledger_url))
    assert str(parse_url(ledger_url).database) in str(refused.value)
    assert "upgrade container-telemetry" in refused.value.remedy
    assert refused.value.exit_code == 78
