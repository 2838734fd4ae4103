"""One transaction of the ledger: settles, then reservations, of any number of calls.

A batch reads and decides inside the transaction that writes it, with the users' rows locked
(SQLite: the database), so no two processes ever spend the same budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from telemetry.services.proxy.ledger.call_ids import Ids
from telemetry.services.proxy.ledger.operations import (
    OTHER,
    Reservation,
    Reserve,
    Settle,
    UnknownKey,
    Verdict,
)
from telemetry.services.proxy.ledger.quota import Account, Blocked, Period, Refusal, busy
from telemetry.services.proxy.ledger.stores import Store

ACCOUNT = (
    "user_id, daily_budget, monthly_budget, requests_per_minute, tokens_per_minute, "
    "keys_version, day, day_spent, month, month_spent, minute, minute_requests, minute_tokens, "
    "reserved, reserved_tokens, rejections"
)
_LOAD = f"SELECT {ACCOUNT} FROM users WHERE user_id = ?"
_SAVE = (
    "UPDATE users SET day = ?, day_spent = ?, month = ?, month_spent = ?, minute = ?, "
    "minute_requests = ?, minute_tokens = ?, reserved = ?, reserved_tokens = ?, "
    "rejections = ? WHERE user_id = ?"
)
_KEY = (
    "SELECT k.id, k.user_id, k.revoked_ms, u.keys_version FROM keys k "
    "JOIN users u ON u.user_id = k.user_id WHERE k.digest = ?"
)
_OPEN = (
    "INSERT INTO calls (id, user_id, key_id, worker, endpoint, provider, model, stream, status, "
    "started_ms, expires_ms, reserved, reserved_tokens, priced, price_version, trace_id) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, ?, ?, ?, ?)"
)
_CLOSE = (
    "UPDATE calls SET status = ?, http_status = ?, ended_ms = ?, cost = ?, priced = ?, "
    "estimated = ?, price_version = ?, provider = ?, input = ?, cache_read = ?, "
    "cache_write = ?, cache_write_1h = ?, output = ?, reasoning = ?, audio_input = ?, "
    "audio_output = ?, searches = ? WHERE id = ? AND status = "
)
_CLOSE_OPEN = _CLOSE + "'open'"
_CLOSE_EXPIRED = _CLOSE + "'expired'"
_COUNTS = ["calls", "cost", "unpriced", "input", "cache_read", "cache_write", "output", "reasoning"]
_COUNT = (
    f"INSERT INTO series (user_id, model, status, created_ms, {', '.join(_COUNTS)}) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (user_id, model, status) DO UPDATE SET "
    + ", ".join(f"{name} = series.{name} + excluded.{name}" for name in _COUNTS)
)
_EXPIRED = (
    "SELECT c.id, c.user_id, c.model, c.reserved, c.reserved_tokens FROM calls c "
    "LEFT JOIN workers w ON w.id = c.worker WHERE c.status = 'open' "
    "AND (c.expires_ms < ? OR w.heartbeat_ms IS NULL OR w.heartbeat_ms < ?)"
)
_EXPIRE = (
    "UPDATE calls SET status = 'expired', ended_ms = ?, cost = 0 WHERE id = ? AND status = 'open'"
)
# Models by name, as `Ledger.label` has them.
_ANSWERED = "SELECT DISTINCT model FROM series"


class LateError(Exception):
    """A call to settle is no longer open: the batch must settle its calls one by one."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A reservation that was released because its process died or hung.

    Args:
        id: the call.
        user_id: its user.
        model: its model.
        reserved: the most that it could have cost, in picodollars.
    """

    id: int
    user_id: str
    model: str
    reserved: int


class Key(NamedTuple):
    """A key that may make calls.

    Args:
        id: the key.
        user_id: its user.
        version: of the user's keys, as it was read.
    """

    id: str
    user_id: str
    version: int


@dataclass
class KeyCache:
    """Keys seen before, by digest."""

    found: dict[str, Key] = field(default_factory=dict)

    def remember(self, digest: str, key: Key) -> None:
        if len(self.found) > 10_000:
            self.found.clear()
        self.found[digest] = key


class Batch:
    """Run operations in one transaction.

    Args:
        store: the connection.
        worker: this process's number in the ledger.
        ids: makes call ids.
        keys: keys seen before.
        clock: ms since the epoch.
    """

    def __init__(
        self, store: Store, worker: int, ids: Ids, keys: KeyCache, clock: Callable[[], int]
    ) -> None:
        self.store = store
        self._worker = worker
        self._ids = ids
        self._keys = keys
        self._clock = clock
        self._load = _LOAD + store.for_update

    def run(
        self, reserves: Sequence[Reserve], settles: Sequence[Settle], *, careful: bool = False
    ) -> list[Verdict | Blocked]:
        """Settle and reserve; returns a verdict for each of ``reserves``, in their order.

        Args:
            careful: settle each call by its own statement; needed if some may have expired.

        Raises:
            StoreError: nothing was written.
            LateError: nothing was written; run again with ``careful``.
        """
        try:
            return self._run(reserves, settles, careful)
        except BaseException:
            self.store.rollback()
            raise

    def _run(
        self, reserves: Sequence[Reserve], settles: Sequence[Settle], careful: bool
    ) -> list[Verdict | Blocked]:
        store = self.store
        now_ms = self._clock()
        now = Period.at(now_ms)
        store.begin()
        keys = [self._key(reserve.call.digest) for reserve in reserves]
        users = {key.user_id for key in keys if isinstance(key, Key)}
        users.update(settle.reservation.user_id for settle in settles)
        accounts = {
            user: account for user in sorted(users) if (account := self._account(user, now))
        }
        if settles:
            self._settle(settles, accounts, careful)
        verdicts: list[Verdict | Blocked] = []
        opened = []
        for reserve, key in zip(reserves, keys, strict=True):
            verdict: Verdict | Blocked
            if isinstance(key, Key):
                verdict = self._reserve(reserve, key, accounts.get(key.user_id), now, now_ms)
            else:
                verdict = key
            if isinstance(verdict, Reservation):
                opened.append(self._opening(reserve, verdict))
            verdicts.append(verdict)
        self._save(accounts)
        if opened:
            store.run_many(_OPEN, opened)
        store.commit()
        return verdicts

    def expire(self, dead_before_ms: int) -> list[Expired]:
        """Release reservations past their time, or whose worker's last heartbeat was before
        ``dead_before_ms``.
        """
        store = self.store
        now_ms = self._clock()
        now = Period.at(now_ms)
        if not store.rows(_EXPIRED, (now_ms, dead_before_ms)):
            return []
        store.begin()
        # Read again inside the transaction; users are locked before calls, as in `run`.
        rows = store.rows(_EXPIRED, (now_ms, dead_before_ms))
        users = sorted({row[1] for row in rows})
        accounts = {user: account for user in users if (account := self._account(user, now))}
        answered = {model for (model,) in store.rows(_ANSWERED)}
        expired = []
        for number, user, model, reserved, tokens in rows:
            if not store.run(_EXPIRE, (now_ms, number)):
                continue  # settled, or released by another worker, in the meantime
            if user in accounts:
                accounts[user].release(reserved, tokens)
            label = model if model in answered else OTHER
            store.run(_COUNT, (user, label, "expired", now_ms, 1, 0, 0, 0, 0, 0, 0, 0))
            expired.append(Expired(number, user, model, reserved))
        self._save(accounts)
        store.commit()
        return expired

    def _account(self, user: str, now: Period) -> Account | None:
        rows = self.store.rows(self._load, (user,))
        if not rows:
            return None
        account = Account(*rows[0])
        account.roll(now)
        return account

    def _key(self, digest: str) -> Key | UnknownKey:
        return self._keys.found.get(digest) or self._read_key(digest)

    def _read_key(self, digest: str) -> Key | UnknownKey:
        rows = self.store.rows(_KEY, (digest,))
        if not rows or rows[0][2] is not None:
            self._keys.found.pop(digest, None)
            return UnknownKey(revoked=bool(rows))
        key_id, user_id, _, version = rows[0]
        key = Key(key_id, user_id, version)
        self._keys.remember(digest, key)
        return key

    def _reserve(
        self, reserve: Reserve, key: Key, account: Account | None, now: Period, now_ms: int
    ) -> Verdict | Blocked:
        """Decide on one call."""
        if account is None or key.version != account.keys_version:
            # A key of the user came or went since this one was read.
            read = self._read_key(reserve.call.digest)
            if isinstance(read, UnknownKey):
                return read
        if account is None:
            return UnknownKey(revoked=False)
        most = reserve.call.maximum
        refused = account.check(
            most.amount,
            most.tokens,
            now_ms,
            hidden_amount=most.hidden_amount,
            hidden_tokens=most.hidden_tokens,
        )
        if isinstance(refused, Blocked) and now_ms >= reserve.waits_until_ms:
            refused = busy()
        if isinstance(refused, Refusal):
            account.rejections += 1
        if refused is not None:
            return refused
        account.reserve(most.amount, most.tokens)
        number = self._ids.next(now_ms)
        return Reservation(number, key.user_id, key.id, most.amount, most.tokens, now_ms, now)

    def _opening(self, reserve: Reserve, reservation: Reservation) -> tuple[object, ...]:
        """The row of a call that may go, in the order of `_OPEN`."""
        call, began_ms = reserve.call, reservation.started_ms
        who = (reservation.id, reservation.user_id, reservation.key_id, self._worker)
        what = (call.endpoint, call.upstream.name, call.model, call.ask.stream)
        times = (began_ms, began_ms + reserve.lasts_ms)
        price = (call.rates is not None, call.rates.version if call.rates else "")
        return (*who, *what, *times, reservation.amount, reservation.tokens, *price, call.trace_id)

    def _settle(
        self, settles: Sequence[Settle], accounts: dict[str, Account], careful: bool
    ) -> None:
        store = self.store
        rows = [_closing(settle) for settle in settles]
        if not careful:
            if store.run_many(_CLOSE_OPEN, rows) != len(rows):
                raise LateError
            done = [(settle, True) for settle in settles]
        else:
            done = []
            for settle, row in zip(settles, rows, strict=True):
                if store.run(_CLOSE_OPEN, row):
                    done.append((settle, True))
                elif store.run(_CLOSE_EXPIRED, row):
                    # Released before, and charged all the same. It has been counted as
                    # expired, so it is not counted as a call again.
                    done.append((settle, False))
        counts: dict[tuple[str, str, str], list[int]] = {}
        for settle, was_open in done:
            reservation, tokens = settle.reservation, settle.tokens
            account = accounts.get(reservation.user_id)
            if account:
                if was_open:
                    account.release(reservation.amount, reservation.tokens)
                used = tokens.input_total + tokens.output
                account.charge(reservation.period, settle.cost, used)
            key = (reservation.user_id, settle.label, settle.status)
            added = [
                int(was_open),
                settle.cost,
                int(not settle.priced),
                tokens.input,
                tokens.cache_read,
                tokens.cache_write + tokens.cache_write_1h,
                tokens.output,
                tokens.reasoning,
            ]
            found = counts.get(key)
            counts[key] = [a + b for a, b in zip(found, added, strict=True)] if found else added
        if counts:
            now_ms = self._clock()
            store.run_many(_COUNT, [(*key, now_ms, *counts[key]) for key in sorted(counts)])

    def _save(self, accounts: dict[str, Account]) -> None:
        rows = [
            (
                a.day,
                a.day_spent,
                a.month,
                a.month_spent,
                a.minute,
                a.minute_requests,
                a.minute_tokens,
                a.reserved,
                a.reserved_tokens,
                a.rejections,
                a.user_id,
            )
            for a in accounts.values()
        ]
        if rows:
            self.store.run_many(_SAVE, rows)


def _closing(settle: Settle) -> tuple[object, ...]:
    t = settle.tokens
    return (
        settle.status,
        settle.http_status,
        settle.ended_ms,
        settle.cost,
        settle.priced,
        settle.estimated,
        settle.price_version,
        settle.provider,
        t.input,
        t.cache_read,
        t.cache_write,
        t.cache_write_1h,
        t.output,
        t.reasoning,
        t.audio_input,
        t.audio_output,
        t.searches,
        settle.reservation.id,
    )
