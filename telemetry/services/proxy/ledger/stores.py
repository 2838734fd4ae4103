"""The two databases a ledger can be in, as the writer needs them: prepared statements on one
driver connection.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from telemetry.errors import TelemetryError

# Much longer than any transaction of another worker, which is all there is to wait for.
BUSY_MS = 5_000

Row = tuple[Any, ...]


class StoreError(Exception):
    """A statement failed; the transaction is void."""


class Store(Protocol):
    """One connection. Statements are written with ``?`` for each parameter."""

    for_update: str
    """What to append to a SELECT so that the rows stay as read until commit."""

    def begin(self) -> None:
        """Begin a transaction that will write."""

    def commit(self) -> None:
        """Make it durable."""

    def rollback(self) -> None:
        """Undo it; never raises. Reconnects if the connection was lost."""

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Return the rows of a query."""

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run a statement; returns how many rows it changed."""

    def run_many(self, sql: str, values: Sequence[Sequence[object]]) -> int:
        """Run a statement for each of ``values``; returns how many rows they changed in all."""

    def close(self) -> None:
        """Close the connection."""


class SqliteStore:
    """SQLite in WAL mode.

    Args:
        path: the file.
        busy_ms: how long to wait for another connection's lock.

    ``synchronous=NORMAL``: a commit survives a killed process, but not a power cut in the same
    second; a synced commit costs milliseconds instead of microseconds.
    """

    for_update = ""

    def __init__(self, path: str, busy_ms: int = BUSY_MS) -> None:
        try:
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            self._connection.execute(f"PRAGMA busy_timeout={busy_ms}")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

    def begin(self) -> None:
        self.run("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                # A full disk rolls back by itself; then there is nothing to undo.
                return

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        try:
            return self._connection.execute(sql, values).rowcount
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

    def run_many(self, sql: str, values: Sequence[Sequence[object]]) -> int:
        if len(values) == 1:
            return self.run(sql, values[0])
        try:
            return self._connection.executemany(sql, values).rowcount
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

    def close(self) -> None:
        self._connection.close()


class PostgresStore:
    """PostgreSQL by psycopg, which prepares statements it sees repeatedly."""

    for_update = " FOR UPDATE"

    def __init__(self, url: URL) -> None:
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._translated: dict[str, str] = {}
        self._connect()

    def _connect(self) -> None:
        import psycopg

        self._error = psycopg.Error
        try:
            self._connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=5,
                # A server that vanished without a word is noticed in 10 s, not in hours.
                keepalives_idle=4,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=10_000,
            )
        except psycopg.Error as error:
            raise StoreError(str(error)) from error

    def _sql(self, sql: str) -> str:
        found = self._translated.get(sql)
        if found is None:
            found = self._translated[sql] = sql.replace("?", "%s")
        return found

    def begin(self) -> None:
        self.run("BEGIN")

    def commit(self) -> None:
        self.run("COMMIT")

    def rollback(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except self._error:
            self._connection.close()
            try:
                self._connect()
            except StoreError:
                # Still unavailable; the next statement fails and reconnects again.
                return

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        try:
            return self._connection.execute(self._sql(sql), values).fetchall()
        except self._error as error:
            raise StoreError(str(error)) from error

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        try:
            return self._connection.execute(self._sql(sql), values).rowcount
        except self._error as error:
            raise StoreError(str(error)) from error

    def run_many(self, sql: str, values: Sequence[Sequence[object]]) -> int:
        if len(values) == 1:
            return self.run(sql, values[0])
        try:
            with self._connection.cursor() as cursor:
                cursor.executemany(self._sql(sql), values)
                return cursor.rowcount
        except self._error as error:
            raise StoreError(str(error)) from error

    def close(self) -> None:
        self._connection.close()


def parse_url(text: str) -> URL:
    """Return the ledger's URL, with psycopg as PostgreSQL's driver.

    Raises:
        TelemetryError: it is neither sqlite:///path nor postgresql://….
    """
    remedy = "use sqlite:////absolute/path/ledger.db or postgresql://user@host/database"
    try:
        url = make_url(text)
    except ArgumentError:
        raise TelemetryError(
            "TELEMETRY_LEDGER_URL is not a database URL", remedy=remedy, exit_code=78
        ) from None
    kind = url.get_backend_name()
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if kind == "sqlite" and url.database and url.database != ":memory:":
        return url.set(drivername="sqlite")
    raise TelemetryError(
        f"TELEMETRY_LEDGER_URL: a ledger can't live in {kind!r}", remedy=remedy, exit_code=78
    )


def open_store(url: URL) -> Store:
    """Open a connection for the writer.

    Raises:
        StoreError: the database can't be reached.
    """
    if url.get_backend_name() == "sqlite":
        return SqliteStore(str(url.database))
    return PostgresStore(url)


def open_quick_store(url: URL) -> Store | None:
    """Open a connection that fails at once if another holds the lock, for the event loop; None
    for a database across a network.

    Raises:
        StoreError: the database can't be reached.
    """
    if url.get_backend_name() == "sqlite":
        store = SqliteStore(str(url.database), busy_ms=0)
        # A checkpoint syncs the disk: that is left to the other connection.
        store.run("PRAGMA wal_autocheckpoint=0")
        return store
    return None


def open_engine(url: URL) -> Engine:
    """Return an engine for everything but the hot path. Makes SQLite's file and folder."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    path = Path(str(url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Created here, since SQLite would make it, and the files beside it, readable by others.
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise TelemetryError(
            f"the ledger {path} can't be made: {error.strerror}",
            remedy="set TELEMETRY_HOME or TELEMETRY_LEDGER_URL to a folder you may write",
            exit_code=73,  # EX_CANTCREAT
        ) from error
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    return engine
