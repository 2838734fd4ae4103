"""Writes the ledger, many calls to a transaction.

SQLite is written in the event loop, where the calls that came in one turn share a transaction:
it takes less time than to wake a thread, which would then fight for the interpreter. Whatever
may take longer is left to the writer's thread: another process's lock, a stalled disk, a
checkpoint, a database across a network.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy.engine import URL

from telemetry.services.proxy.ledger.backlog import Backlog
from telemetry.services.proxy.ledger.batch import Batch, KeyCache
from telemetry.services.proxy.ledger.call_ids import Ids, now_ms
from telemetry.services.proxy.ledger.health import Health
from telemetry.services.proxy.ledger.heartbeat import Heartbeat, Presence
from telemetry.services.proxy.ledger.operations import (
    Reservation,
    Reserve,
    Settle,
    Verdict,
    cancelled,
)
from telemetry.services.proxy.ledger.stores import Store, open_quick_store, open_store
from telemetry.services.proxy.ledger.writer_thread import Delivery, WriterThread, split

# How long a settled call may wait for company; chosen by judgement, not measured.
SETTLE_WITHIN_S = 0.005
# A disk that holds the event loop for STALL_S is left to the thread for STALLED_FOR_S; both
# chosen by judgement, not measured.
STALL_S = 0.02
STALLED_FOR_S = 1.0
CLOSE_TIMEOUT_S = 1.0


class Writer:
    """Writes the ledger for one process.

    Args:
        url: the ledger.
        clock: ms since the epoch.
    """

    def __init__(self, url: URL, clock: Callable[[], int] = now_ms) -> None:
        self._url = url
        self._clock = clock
        self._health = Health()
        self._backlog = Backlog()
        self._quick: Batch | None = None
        self._arrived: list[Reserve] = []
        self._here_after = 0.0
        self._nudged = False

    def start(self) -> None:
        """Open the ledger and begin.

        Raises:
            StoreError: it can't be opened.
        """
        store = open_store(self._url)
        presence = Presence(store, self._clock())
        ids, keys = Ids(presence.worker), KeyCache()

        def batch(store: Store) -> Batch:
            return Batch(store, presence.worker, ids, keys, self._clock)

        patient = batch(store)
        if quick := open_quick_store(self._url):
            self._quick = batch(quick)
        self._thread = WriterThread(
            patient,
            Heartbeat(presence, patient, self._health, self._clock),
            self._backlog,
            self._health,
            self._resolve,
            self.give_back,
        )
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Write what is queued, give up the worker's place, and end."""
        self._backlog.stop()
        self._thread.join(timeout_s)
        # The thread holds the lock while it writes. If the database doesn't answer, the process
        # must end all the same.
        if self._quick is not None and self._backlog.lock.acquire(timeout=CLOSE_TIMEOUT_S):
            try:
                self._quick.store.close()
                self._quick = None
            finally:
                self._backlog.lock.release()

    @property
    def problem(self) -> str:
        """What keeps the ledger from being written, ``""`` if nothing does."""
        return self._health.problem

    @property
    def leads(self) -> bool:
        """Whether this process reports the ledger's numbers."""
        return self._thread.leads

    def settled(self, timeout_s: float) -> bool:
        """Wait until all that was queued before is written; False if it isn't in time."""
        return self._backlog.mark().wait(timeout_s) and not self._thread.has_unsettled

    def reserve(self, reserve: Reserve) -> None:
        """Write a call, together with all that come in the same turn of the event loop; its
        future gets the answer.
        """
        self._arrived.append(reserve)
        if len(self._arrived) == 1:
            asyncio.get_running_loop().call_soon(self._write_arrived)

    def settle(self, settle: Settle) -> None:
        """Queue a call that has ended. It is retried until it is written.

        Nobody waits for it, so in the event loop it waits for the next reservation to share
        its commit, though not for long.
        """
        self._backlog.add_settle(settle)
        if self._nudged:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._backlog.wake()
            return
        self._nudged = True
        loop.call_later(SETTLE_WITHIN_S, self._nudge)

    def give_back(self, verdicts: Iterable[Verdict | Exception]) -> None:
        """Settle calls that were allowed and will not be made."""
        for verdict in verdicts:
            if isinstance(verdict, Reservation):
                self.settle(cancelled(verdict, self._clock()))

    def _nudge(self) -> None:
        self._nudged = False
        if self._backlog.has_settles and not self._arrived:
            self._write_arrived()

    def _write_arrived(self) -> None:
        """In the event loop: write what has come and what has ended, or leave it to the thread."""
        arrived, self._arrived = self._arrived, []
        if not self._write_here(arrived):
            self._backlog.leave(arrived)
            if not arrived:
                self._backlog.wake()

    def _write_here(self, arrived: Sequence[Reserve]) -> bool:
        """Write all of it now if that is quick; returns whether it is written."""
        began = time.monotonic()
        backlog = self._backlog
        if (
            began < self._here_after
            or self._thread.is_behind
            or backlog.is_queued
            or not backlog.lock.acquire(blocking=False)
        ):
            return False
        try:
            if self._quick is None:
                return False
            settles = backlog.take_settles()
            try:
                verdicts = self._quick.run(arrived, settles)
            except Exception:
                # Locked by another process, or worse: the thread has the patience to find out.
                backlog.put_back(settles)
                return False
            self._health.decided(verdicts)
        finally:
            backlog.lock.release()
            if time.monotonic() - began > STALL_S:
                self._here_after = began + STALLED_FOR_S
        decided, blocked = split(arrived, verdicts)
        self._resolve(decided)
        backlog.leave(blocked)
        return True

    def _resolve(self, delivered: list[Delivery]) -> None:
        """In the event loop: hand out verdicts; give back what nobody waits for any more."""
        orphans = []
        for future, verdict in delivered:
            if future.done():
                orphans.append(verdict)
            elif isinstance(verdict, Exception):
                future.set_exception(verdict)
            else:
                future.set_result(verdict)
        self.give_back(orphans)
