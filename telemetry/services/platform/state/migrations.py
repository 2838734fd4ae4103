"""The schema of the platform's database, from its first version on.

The schema is only changed by a new migration at the end of `MIGRATIONS` (see
`telemetry.system.migrations`).
"""

from __future__ import annotations

from telemetry.system.migrations import Migration

MIGRATIONS: tuple[Migration, ...] = (
    (
        "create table if not exists platform (id text not null, engine_id text not null)",
        """
        create table if not exists containers (
            handle text primary key,
            container_id text not null,
            phase text not null,
            wanted integer not null,
            spec text,
            key_id text not null,
            created_ms integer not null,
            totals text not null,
            logs_until text not null
        ) without rowid
        """,
        """
        create table if not exists revocations (
            id integer primary key,
            handle text not null,
            key_id text not null,
            from_ms integer not null,
            to_ms integer not null
        )
        """,
    ),
)
