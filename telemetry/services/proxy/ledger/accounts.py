"""Users, keys and budgets in the ledger, for the command line and the admin API."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Row, select, update

from telemetry.errors import TelemetryError
from telemetry.services.proxy.ledger import schema
from telemetry.services.proxy.ledger.call_ids import now_ms
from telemetry.services.proxy.ledger.operations import UnknownKey
from telemetry.services.proxy.pricing.money import pico, usd

PREFIX = "tk-"
_USER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
LIMITS = ("daily_budget", "monthly_budget", "requests_per_minute", "tokens_per_minute")
# As requests name them, with what they are kept as.
FIELDS = {
    "daily_budget_usd": "daily_budget",
    "monthly_budget_usd": "monthly_budget",
    "requests_per_minute": "requests_per_minute",
    "tokens_per_minute": "tokens_per_minute",
}


class AccountError(TelemetryError):
    """An invalid (``exit_code`` 64) or unknown (66) user, key or limit."""


@dataclass(frozen=True)
class NewKey:
    """A key just created; ``key`` is displayed only once and kept only as its hash."""

    id: str
    user_id: str
    key: str


def digest(key: str) -> str:
    """SHA-256 of a key, hex.

    A plain hash is enough, without salt or stretching: a key is 256 random bits, which can't be
    guessed from the hash however fast the hash is; and each call is looked up by it.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def limits(given: Mapping[str, Any]) -> dict[str, int | None]:
    """Limits from a request's fields (see FIELDS); None removes one; absent ones are kept.

    Raises:
        AccountError: a limit is not a number, or negative.
    """
    found: dict[str, int | None] = {}
    for name, column in FIELDS.items():
        if name not in given:
            continue
        value = given[name]
        if value is None:
            found[column] = None
        elif name.endswith("_usd"):
            try:
                found[column] = pico(value)
            except ValueError as error:
                raise AccountError(f"{name}: {error}", exit_code=64) from None
        elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            raise AccountError(f"{name}: {value!r} is not a whole number", exit_code=64)
        else:
            found[column] = value
    return found


def create_key(engine: Engine, user_id: str, given: Mapping[str, int | None]) -> NewKey:
    """Create a key, and its user if it does not exist; ``given`` limits are set.

    Raises:
        AccountError: the user's name can't be used.
    """
    if not _USER_ID.fullmatch(user_id):
        raise AccountError(
            f"user_id {user_id!r} can't be used",
            remedy="use 1 to 128 letters, digits, or . _ @ -, a letter or digit first",
            exit_code=64,
        )
    key = PREFIX + secrets.token_urlsafe(32)
    key_id = "key_" + secrets.token_hex(8)
    with engine.begin() as connection:
        _ensure_user(connection, user_id)
        connection.execute(
            schema.keys.insert().values(
                id=key_id, user_id=user_id, digest=digest(key), hint=key[-4:], created_ms=now_ms()
            )
        )
        _change(connection, user_id, given)
    return NewKey(key_id, user_id, key)


def _ensure_user(connection: Connection, user_id: str) -> None:
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(schema.users).values(user_id=user_id, created_ms=now_ms())
    connection.execute(statement.on_conflict_do_nothing())


def _change(connection: Connection, user_id: str, given: Mapping[str, int | None]) -> int:
    users = schema.users
    statement = update(users).where(users.c.user_id == user_id)
    return connection.execute(
        statement.values(keys_version=users.c.keys_version + 1, **given)
    ).rowcount


def set_limits(engine: Engine, user_id: str, given: Mapping[str, int | None]) -> dict[str, Any]:
    """Change a user's limits; returns all of them.

    Raises:
        AccountError: there is no such user.
    """
    with engine.begin() as connection:
        if not _change(connection, user_id, given):
            raise AccountError(
                f"there is no user {user_id!r}",
                remedy="create a key for them first: telemetry keys create USER",
                exit_code=66,
            )
        users = schema.users
        row = connection.execute(select(users).where(users.c.user_id == user_id)).one()
    return {"user_id": user_id, **_limits_shown(row)}


def revoke_key(engine: Engine, key_id: str) -> bool:
    """Revoke a key immediately and permanently; True if it was valid until now.

    Raises:
        AccountError: there is no such key.
    """
    keys = schema.keys
    with engine.begin() as connection:
        row = connection.execute(select(keys).where(keys.c.id == key_id)).one_or_none()
        if row is None:
            raise AccountError(
                f"there is no key {key_id!r}", remedy="see: telemetry keys list", exit_code=66
            )
        changed = connection.execute(
            update(keys)
            .where(keys.c.id == key_id, keys.c.revoked_ms.is_(None))
            .values(revoked_ms=now_ms())
        ).rowcount
        _change(connection, row.user_id, {})
    return bool(changed)


def list_keys(engine: Engine) -> list[dict[str, Any]]:
    """List all keys with their users' limits, oldest first; never the keys themselves."""
    keys, users = schema.keys, schema.users
    statement = (
        select(keys, *(users.c[name] for name in LIMITS))
        .join(users, users.c.user_id == keys.c.user_id)
        .order_by(keys.c.created_ms, keys.c.id)
    )
    with engine.connect() as connection:
        rows = connection.execute(statement).all()
    return [
        {
            "id": row.id,
            "user_id": row.user_id,
            "hint": f"{PREFIX}…{row.hint}",
            "created_ms": row.created_ms,
            "revoked_ms": row.revoked_ms,
            **_limits_shown(row),
        }
        for row in rows
    ]


def user_of(engine: Engine, key: str) -> str | None:
    """Return the user of a valid key, None if the key is not valid."""
    keys = schema.keys
    statement = select(keys.c.user_id).where(
        keys.c.digest == digest(key), keys.c.revoked_ms.is_(None)
    )
    with engine.connect() as connection:
        return connection.execute(statement).scalar_one_or_none()


def refusal_of(engine: Engine, key: str) -> UnknownKey | None:
    """Return why a key may not make calls, None if it may."""
    keys = schema.keys
    statement = select(keys.c.revoked_ms).where(keys.c.digest == digest(key))
    with engine.connect() as connection:
        row = connection.execute(statement).one_or_none()
    return UnknownKey(revoked=row is not None) if row is None or row.revoked_ms else None


def _limits_shown(row: Row[Any]) -> dict[str, Any]:
    return {
        name: usd(value) if name.endswith("_usd") and value is not None else value
        for name, column in FIELDS.items()
        for value in (getattr(row, column),)
    }
