"""Numbered schema migrations for SQLite and PostgreSQL.

Each store has a list of migrations, and the n-th brings its database from version n - 1 to n. A
schema is only changed by a new migration at the end of that list; one that was released is never
edited. The first one creates tables only if they are missing, so that a database from before
migrations existed, which has its tables but no recorded version, becomes version 1 as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

Migration = Sequence[str]
"""SQL statements; those of all pending migrations run in one transaction."""


class Cursor(Protocol):
    """The result of a statement."""

    def fetchone(self) -> Any:
        """The next row."""


@dataclass(frozen=True)
class Dialect:
    """Statements that the databases write differently.

    Args:
        begin: begin a transaction that excludes every other migrating process.
        count_tables: count the tables named ``schema_version``: 0 or 1.
    """

    begin: tuple[str, ...]
    count_tables: str


SQLITE = Dialect(
    begin=("BEGIN IMMEDIATE",),
    count_tables="SELECT count(*) FROM sqlite_master WHERE name = 'schema_version'",
)
POSTGRESQL = Dialect(
    # The lock's number is arbitrary; it is held until the transaction ends.
    begin=("BEGIN", "SELECT pg_advisory_xact_lock(7263548)"),
    count_tables="SELECT count(*) FROM pg_tables WHERE tablename = 'schema_version' "
    "AND schemaname = current_schema()",
)


class NewerSchemaError(Exception):
    """The database was written by a newer version of this program.

    Args:
        version: the database's.
        newest: the newest one known here.
    """

    def __init__(self, version: int, newest: int) -> None:
        super().__init__(f"its schema has version {version}, and this program knows {newest}")


def migrate(
    execute: Callable[[str], Cursor], dialect: Dialect, migrations: Sequence[Migration]
) -> None:
    """Bring a database to the newest version, or leave it as it is.

    Args:
        execute: runs a statement on one connection, outside of any transaction of its own.
        dialect: SQL dialect of that connection.
        migrations: all of them, the oldest first.

    Raises:
        NewerSchemaError: the database is newer than the last migration.
    """
    if _is_newest(execute, dialect, migrations):
        return  # without a lock, since every command opens the database
    try:
        for statement in dialect.begin:
            execute(statement)
        # Another process may have migrated it in the meantime.
        if not _is_newest(execute, dialect, migrations):
            _apply(execute, migrations[_version(execute, dialect) :], len(migrations))
        execute("COMMIT")
    except BaseException:
        # SQLite may have rolled back by itself, e.g. on a full disk.
        with suppress(Exception):
            execute("ROLLBACK")
        raise


def _apply(execute: Callable[[str], Cursor], pending: Sequence[Migration], newest: int) -> None:
    for migration in pending:
        for statement in migration:
            execute(statement)
    execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
    execute("DELETE FROM schema_version")
    execute(f"INSERT INTO schema_version (version) VALUES ({newest})")


def _is_newest(
    execute: Callable[[str], Cursor], dialect: Dialect, migrations: Sequence[Migration]
) -> bool:
    version, newest = _version(execute, dialect), len(migrations)
    if version > newest:
        raise NewerSchemaError(version, newest)
    return version == newest


def _version(execute: Callable[[str], Cursor], dialect: Dialect) -> int:
    """Return the version recorded in the database, 0 if it has no version."""
    if not execute(dialect.count_tables).fetchone()[0]:
        return 0
    return int(execute("SELECT version FROM schema_version").fetchone()[0])
