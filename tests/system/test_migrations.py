"""Numbered migrations: applied once, in order and atomically."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from telemetry.system.migrations import SQLITE, Migration, NewerSchemaError, migrate

FIRST: Migration = ("CREATE TABLE IF NOT EXISTS things (name TEXT)",)
SECOND: Migration = ("ALTER TABLE things ADD COLUMN size INTEGER", "UPDATE things SET size = 7")
THIRD: Migration = ("INSERT INTO things VALUES ('third', 3)",)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as connection:
        yield connection


def versions(database: sqlite3.Connection) -> list[tuple[int]]:
    return database.execute("SELECT version FROM schema_version").fetchall()


def test_new_database_gets_every_migration(database: sqlite3.Connection) -> None:
    migrate(database.execute, SQLITE, [FIRST, SECOND, THIRD])
    assert database.execute("SELECT * FROM things").fetchall() == [("third", 3)]
    assert versions(database) == [(3,)]


def test_each_migration_is_applied_once(database: sqlite3.Connection) -> None:
    for migrations in ([FIRST], [FIRST, SECOND], [FIRST, SECOND, THIRD], [FIRST, SECOND, THIRD]):
        migrate(database.execute, SQLITE, migrations)
    assert database.execute("SELECT * FROM things").fetchall() == [("third", 3)]
    assert versions(database) == [(3,)]


def test_database_without_a_version_is_adopted_as_version_1(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE things (name TEXT)")
    database.execute("INSERT INTO things VALUES ('old')")
    migrate(database.execute, SQLITE, [FIRST])
    assert versions(database) == [(1,)]
    migrate(database.execute, SQLITE, [FIRST, SECOND])
    assert database.execute("SELECT * FROM things").fetchall() == [("old", 7)]


def test_newest_database_is_opened_while_another_process_writes_it(
    database: sqlite3.Connection, tmp_path: Path
) -> None:
    migrate(database.execute, SQLITE, [FIRST])
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None, timeout=0)) as other:
        database.execute("BEGIN IMMEDIATE")
        migrate(other.execute, SQLITE, [FIRST])


def test_failed_migration_leaves_the_database_as_it_was(database: sqlite3.Connection) -> None:
    migrate(database.execute, SQLITE, [FIRST])
    with pytest.raises(sqlite3.Error, match="no such table"):
        migrate(database.execute, SQLITE, [FIRST, SECOND, ("DROP TABLE missing",)])
    assert [row[1] for row in database.execute("PRAGMA table_info(things)")] == ["name"]
    assert versions(database) == [(1,)]
    assert not database.in_transaction


def test_database_of_a_newer_version_is_refused(database: sqlite3.Connection) -> None:
    migrate(database.execute, SQLITE, [FIRST, SECOND])
    with pytest.raises(NewerSchemaError, match="version 2, and this program knows 1"):
        migrate(database.execute, SQLITE, [FIRST])
    assert versions(database) == [(2,)]


def test_openers_at_the_same_time_migrate_once(
    database: sqlite3.Connection, tmp_path: Path
) -> None:
    openers = 8
    together = threading.Barrier(openers)

    def open_it() -> None:
        with closing(sqlite3.connect(tmp_path / "db", isolation_level=None, timeout=30)) as mine:
            together.wait()
            migrate(mine.execute, SQLITE, [FIRST, SECOND, THIRD])

    with ThreadPoolExecutor(openers) as pool:
        for future in [pool.submit(open_it) for _ in range(openers)]:
            future.result()
    assert database.execute("SELECT * FROM things").fetchall() == [("third", 3)]
