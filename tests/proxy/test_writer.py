"""The event loop writes the ledger if it is quick, the writer's thread if it isn't."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry.services.proxy.call import Maximum
from telemetry.services.proxy.ledger import accounts, writer, writer_thread
from telemetry.services.proxy.ledger.ledger import Ledger
from telemetry.services.proxy.ledger.operations import Reservation, Settle, Verdict
from telemetry.services.proxy.ledger.stores import SqliteStore
from telemetry.services.proxy.pricing.usage import Tokens
from tests.proxy.conftest import a_call, wait_for


class Watched:
    """A ledger in SQLite, with a look at the event loop's own transactions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = Ledger(f"sqlite:///{path}")
        self.key = accounts.create_key(self.ledger.engine, "ann", {}).key
        self.ledger.start()
        assert self.ledger.settled()  # its thread has shown that it lives, and waits
        self._statements: list[str] = []
        quick = self.ledger._writer._quick
        assert quick is not None
        store = quick.store
        assert isinstance(store, SqliteStore)
        store._connection.set_trace_callback(self._statements.append)

    def commits(self) -> int:
        """Transactions the event loop has committed since this was asked last."""
        count = self._statements.count("COMMIT")
        self._statements.clear()
        return count

    async def reserve(self) -> Verdict:
        call = a_call(self.key, "gpt-4o", Maximum(amount=1000, tokens=10))
        return await self.ledger.reserve(call, lasts_ms=60_000, wait_ms=0)

    def settle(self, verdict: Verdict) -> None:
        assert isinstance(verdict, Reservation)
        tokens = Tokens(input=3, output=4)
        self.ledger.settle(
            Settle(verdict, "ok", 200, "gpt-4o", "openai", True, "x", tokens, cost=700)
        )

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """What another process sees."""
        connection = sqlite3.connect(self.path)
        found = connection.execute(sql).fetchall()
        connection.close()
        return found


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr(writer_thread, "HEARTBEAT_S", 600.0)  # the thread doesn't come in between
    monkeypatch.setattr(writer, "STALL_S", 60.0)  # a busy machine is no stalled disk
    found = Watched(tmp_path / "ledger.db")
    yield found
    found.ledger.stop()


async def test_calls_of_one_turn_share_a_transaction(watched: Watched) -> None:
    verdicts = await asyncio.gather(*(watched.reserve() for _ in range(10)))
    assert all(isinstance(verdict, Reservation) for verdict in verdicts)
    assert watched.commits() == 1
    assert watched.rows("SELECT reserved, minute_requests FROM users") == [(10_000, 10)]


async def test_settlement_shares_the_next_calls_transaction(watched: Watched) -> None:
    watched.settle(await watched.reserve())
    watched.commits()
    await watched.reserve()
    assert watched.commits() == 1
    assert watched.rows("SELECT reserved, day_spent FROM users") == [(1000, 700)]
    assert watched.rows("SELECT status, cost FROM calls ORDER BY id") == [
        ("ok", 700),
        ("open", None),
    ]


async def test_settlement_is_written_without_a_next_call(watched: Watched) -> None:
    watched.settle(await watched.reserve())
    written = [("ok",)]
    await asyncio.to_thread(wait_for, lambda: watched.rows("SELECT status FROM calls") == written)
    assert watched.commits() == 2


async def test_lock_of_another_process_does_not_block_the_event_loop(watched: Watched) -> None:
    """The thread waits for it; the event loop goes on."""
    first = await watched.reserve()
    other = sqlite3.connect(watched.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    watched.settle(first)
    waiting = [asyncio.ensure_future(watched.reserve()) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert not any(future.done() for future in waiting)
    other.execute("COMMIT")
    other.close()
    for verdict in await asyncio.gather(*waiting):
        watched.settle(verdict)
    assert watched.ledger.settled()
    assert watched.rows("SELECT reserved, day_spent, minute_requests FROM users") == [(0, 2800, 4)]
    assert watched.rows("SELECT status, count(*) FROM calls GROUP BY status") == [("ok", 4)]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_call_cancelled_before_it_begins_holds_no_reservation(
    watched: Watched, turns: int
) -> None:
    """In whichever turn of the loop that comes: before it is written, with it, or after."""
    task = asyncio.ensure_future(watched.reserve())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        watched.settle(task.result())
    await asyncio.to_thread(
        wait_for, lambda: watched.rows("SELECT coalesce(sum(reserved), 0) FROM users") == [(0,)]
    )
    assert ("open",) not in watched.rows("SELECT status FROM calls")


async def test_settlements_during_stop_are_written(watched: Watched) -> None:
    """Whoever of the two would have written it."""
    verdicts = [await watched.reserve() for _ in range(3)]
    for verdict in verdicts:
        watched.settle(verdict)
    await asyncio.to_thread(watched.ledger.stop)
    assert watched.rows("SELECT reserved, day_spent FROM users") == [(0, 2100)]


async def test_stalled_disk_is_left_to_the_thread_temporarily(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "STALL_S", -1.0)  # as if every transaction took too long
    await watched.reserve()
    assert watched.commits() == 1
    assert isinstance(await watched.reserve(), Reservation)
    assert watched.commits() == 0
    watched.ledger._writer._here_after = 0.0  # the while is over
    await watched.reserve()
    assert watched.commits() == 1


async def test_only_the_thread_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the event loop: it syncs the disk. Nor is the log left to grow."""
    monkeypatch.setattr(writer_thread, "HEARTBEAT_S", 0.05)
    watched = Watched(tmp_path / "ledger.db")
    log = watched.path.with_name("ledger.db-wal")
    empty = watched.path.stat().st_size
    calls = 6000
    for _ in range(calls):
        await watched.reserve()
    # Each of them changed at least the pages of its user and of its own row.
    assert log.stat().st_size < calls * 2 * 4096 / 2
    assert watched.path.stat().st_size > empty
    watched.ledger.stop()


def test_writer_stops_although_a_stuck_statement_holds_the_lock(watched: Watched) -> None:
    lock = watched.ledger._writer._backlog.lock
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(60)

    stuck = threading.Thread(target=hold)
    stuck.start()
    try:
        assert held.wait(10)
        watched.ledger._writer.stop(timeout_s=0.05)
    finally:
        release.set()
        stuck.join()
