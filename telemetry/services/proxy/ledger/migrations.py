"""The ledger's schema from its first version on, and opening a ledger.

A schema is only changed by a new migration at the end of `MIGRATIONS` (see
`telemetry.system.migrations`). `schema` has the tables as they are after the last one.
"""

from __future__ import annotations

import time

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from telemetry.errors import TelemetryError
from telemetry.services.proxy.ledger.stores import open_engine
from telemetry.system.migrations import (
    POSTGRESQL,
    SQLITE,
    Migration,
    NewerSchemaError,
    migrate,
)

# SQLite refuses at once to change to WAL mode while another process opens the same new file.
_OPEN_TRIES = 5

# Types that the databases name differently. SQLite: INTEGER, as that alone is the row's own
# number; any other type has an index more.
_TYPES = {
    "sqlite": {"CALL_ID": "INTEGER", "SERIAL": "INTEGER"},
    "postgresql": {"CALL_ID": "BIGINT", "SERIAL": "SERIAL"},
}

MIGRATIONS: tuple[Migration, ...] = (
    (
        """
        CREATE TABLE IF NOT EXISTS users (
            user_id TEXT NOT NULL PRIMARY KEY,
            created_ms BIGINT NOT NULL,
            daily_budget BIGINT,
            monthly_budget BIGINT,
            requests_per_minute BIGINT,
            tokens_per_minute BIGINT,
            keys_version BIGINT DEFAULT '0' NOT NULL,
            day BIGINT DEFAULT '0' NOT NULL,
            day_spent BIGINT DEFAULT '0' NOT NULL,
            month BIGINT DEFAULT '0' NOT NULL,
            month_spent BIGINT DEFAULT '0' NOT NULL,
            minute BIGINT DEFAULT '0' NOT NULL,
            minute_requests BIGINT DEFAULT '0' NOT NULL,
            minute_tokens BIGINT DEFAULT '0' NOT NULL,
            reserved BIGINT DEFAULT '0' NOT NULL,
            reserved_tokens BIGINT DEFAULT '0' NOT NULL,
            rejections BIGINT DEFAULT '0' NOT NULL
        )
        """,
        """
        CREATE TABLE IF NOT EXISTS keys (
            id TEXT NOT NULL PRIMARY KEY,
            user_id TEXT NOT NULL REFERENCES users (user_id),
            digest TEXT NOT NULL UNIQUE,
            hint TEXT NOT NULL,
            created_ms BIGINT NOT NULL,
            revoked_ms BIGINT
        )
        """,
        "CREATE INDEX IF NOT EXISTS ix_keys_user_id ON keys (user_id)",
        """
        CREATE TABLE IF NOT EXISTS calls (
            id {CALL_ID} NOT NULL PRIMARY KEY,
            user_id TEXT NOT NULL,
            key_id TEXT NOT NULL,
            worker BIGINT NOT NULL,
            endpoint TEXT NOT NULL,
            provider TEXT NOT NULL,
            model TEXT NOT NULL,
            stream BOOLEAN NOT NULL,
            status TEXT NOT NULL,
            http_status INTEGER,
            started_ms BIGINT NOT NULL,
            expires_ms BIGINT NOT NULL,
            ended_ms BIGINT,
            reserved BIGINT NOT NULL,
            reserved_tokens BIGINT NOT NULL,
            cost BIGINT,
            priced BOOLEAN NOT NULL,
            estimated BOOLEAN,
            price_version TEXT NOT NULL,
            trace_id TEXT NOT NULL,
            input BIGINT,
            cache_read BIGINT,
            cache_write BIGINT,
            cache_write_1h BIGINT,
            output BIGINT,
            reasoning BIGINT,
            audio_input BIGINT,
            audio_output BIGINT,
            searches BIGINT
        )
        """,
        # Open reservations only: a handful of rows, searched for expired ones.
        "CREATE INDEX IF NOT EXISTS calls_open ON calls (expires_ms) WHERE status = 'open'",
        """
        CREATE TABLE IF NOT EXISTS series (
            user_id TEXT NOT NULL,
            model TEXT NOT NULL,
            status TEXT NOT NULL,
            created_ms BIGINT NOT NULL,
            calls BIGINT NOT NULL,
            cost BIGINT NOT NULL,
            unpriced BIGINT NOT NULL,
            input BIGINT NOT NULL,
            cache_read BIGINT NOT NULL,
            cache_write BIGINT NOT NULL,
            output BIGINT NOT NULL,
            reasoning BIGINT NOT NULL,
            PRIMARY KEY (user_id, model, status)
        )
        """,
        """
        CREATE TABLE IF NOT EXISTS workers (
            id {SERIAL} NOT NULL PRIMARY KEY,
            name TEXT NOT NULL,
            heartbeat_ms BIGINT NOT NULL
        )
        """,
        """
        CREATE TABLE IF NOT EXISTS leases (
            name TEXT NOT NULL PRIMARY KEY,
            worker BIGINT NOT NULL,
            expires_ms BIGINT NOT NULL
        )
        """,
    ),
    # It held the version before `schema_version` did.
    ("DROP TABLE IF EXISTS about",),
)


def open_ledger(url: URL) -> Engine:
    """An engine for a ledger of the newest schema; it is created if it doesn't exist.

    Raises:
        TelemetryError: it can't be opened, or a newer version of this program wrote it.
    """
    engine = open_engine(url)
    shown = url.render_as_string(hide_password=True)
    for tries_left in reversed(range(_OPEN_TRIES)):
        try:
            _migrate(engine)
        except NewerSchemaError as error:
            engine.dispose()
            raise TelemetryError(
                f"a newer version of container-telemetry wrote the ledger {shown}: {error}",
                remedy="upgrade container-telemetry, or name another ledger by "
                "TELEMETRY_LEDGER_URL",
                exit_code=78,
            ) from None
        except SQLAlchemyError as error:
            if tries_left:
                time.sleep(0.1)
                continue
            raise TelemetryError(
                f"the ledger {shown} can't be opened: {getattr(error, 'orig', None) or error}",
                remedy="check TELEMETRY_LEDGER_URL, the disk's space and the database server",
                exit_code=74,  # EX_IOERR
            ) from error
        else:
            break
    return engine


def _migrate(engine: Engine) -> None:
    name = engine.dialect.name
    migrations = [[sql.format(**_TYPES[name]) for sql in each] for each in MIGRATIONS]
    # The transaction is ours: the driver would leave SQLite's DDL out of its own.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        dialect = SQLITE if name == "sqlite" else POSTGRESQL
        migrate(connection.exec_driver_sql, dialect, migrations)
