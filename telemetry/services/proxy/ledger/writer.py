"""Writes the ledger, many calls to a transaction.

SQLite is written in the event loop, where the calls that came in one turn share a transaction:
it takes less time than to wake a thread, which would then fight for the interpreter. Whatever
may take longer is left to the writer's thread: another process's lock, a stalled disk, a
checkpoint, a database across a network. While it runs a transaction, the next calls queue up
and share the following one.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy.engine import URL

from telemetry.services.proxy.ledger.batch import Batch, KeyCache, LateError
from telemetry.services.proxy.ledger.call_ids import Ids, now_ms, text
from telemetry.services.proxy.ledger.heartbeat import DEAD_AFTER_MS, HEARTBEAT_S, Presence
from telemetry.services.proxy.ledger.operations import (
    OTHER,
    Reservation,
    Reserve,
    Settle,
    Verdict,
)
from telemetry.services.proxy.ledger.quota import Blocked, busy
from telemetry.services.proxy.ledger.stores import Store, StoreError, open_quick_store, open_store
from telemetry.services.proxy.pricing.money import usd

# How often calls that wait look again for what other workers settled; a judgement.
POLL_S = 0.02
RETRY_S = 0.5
# How long a settled call may wait for company; a judgement.
SETTLE_WITHIN_S = 0.005
# A disk that holds the event loop for so long is left to the thread for a while; judgements.
STALL_S = 0.02
STALLED_FOR_S = 1.0
GROUP = 256

Delivery = tuple[asyncio.Future[Verdict], Verdict | Exception]
Item = Reserve | threading.Event | None

# Put in the queue only to wake the writer.
_NUDGE = threading.Event()

_log = logging.getLogger(__name__)


class LedgerUnavailableError(Exception):
    """The ledger can't be written now; nothing was reserved."""


class Writer:
    """Writes the ledger for one process.

    Args:
        url: the ledger.
        clock: ms since the epoch.
    """

    def __init__(self, url: URL, clock: Callable[[], int] = now_ms) -> None:
        self._url = url
        self._clock = clock
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._ready = threading.Event()
        self._failed: StoreError | None = None
        self._settles: collections.deque[Settle] = collections.deque()
        # Held while a transaction takes from the settles and gives out ids.
        self._lock = threading.Lock()
        self._quick_store: Store | None = None
        self._arrived: list[Reserve] = []
        self._here_after = 0.0
        self._nudged = False
        self._waiting: list[Reserve] = []
        self._unsettled: list[Settle] = []
        self._delivered: list[Delivery] = []
        self.leads = False
        self.problem = ""
        """What keeps the ledger from being written, ``""`` while all is well."""

    def start(self) -> None:
        """Open the ledger and begin. Blocks until it is open.

        Raises:
            StoreError: it can't be opened.
        """
        self._thread.start()
        self._ready.wait()
        if self._failed:
            raise self._failed

    def reserve(self, reserve: Reserve) -> None:
        """Write a call, together with all that come in the same turn of the event loop; its
        future gets the answer.
        """
        self._arrived.append(reserve)
        if len(self._arrived) == 1:
            asyncio.get_running_loop().call_soon(self._write_arrived)

    def _write_arrived(self) -> None:
        """In the event loop: write what has come and what has ended, or leave it to the thread."""
        arrived, self._arrived = self._arrived, []
        if not self._write_here(arrived):
            for reserve in arrived:
                self._queue.put(reserve)
            if not arrived:
                self._queue.put(_NUDGE)

    def _write_here(self, arrived: Sequence[Reserve]) -> bool:
        """Whether all of it is written."""
        began = time.monotonic()
        if (
            began < self._here_after
            or self._waiting
            or self._unsettled
            or not self._queue.empty()
            or not self._lock.acquire(blocking=False)
        ):
            return False
        try:
            store = self._quick_store
            if store is None:
                return False
            settles = self._ended()
            try:
                verdicts = self._quick.run(arrived, settles)
            except Exception:
                # Locked by another process, or worse: the thread has the patience to find out.
                store.rollback()
                self._settles.extendleft(reversed(settles))
                return False
            self._took(verdicts)
        finally:
            self._lock.release()
            if time.monotonic() - began > STALL_S:
                self._here_after = began + STALLED_FOR_S
        decided, blocked = _split(arrived, verdicts)
        self._resolve(decided)
        for reserve in blocked:
            self._queue.put(reserve)
        return True

    def _ended(self) -> list[Settle]:
        """The calls to settle; the lock must be held."""
        return [self._settles.popleft() for _ in range(len(self._settles))]

    def settle(self, settle: Settle) -> None:
        """Queue a call that has ended. It is retried until it is written.

        Nobody waits for it, so in the event loop it waits for the next reservation to share
        its commit, though not for long.
        """
        self._settles.append(settle)
        if self._nudged:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._queue.put(_NUDGE)
            return
        self._nudged = True
        loop.call_later(SETTLE_WITHIN_S, self._nudge)

    def _nudge(self) -> None:
        self._nudged = False
        if self._settles and not self._arrived:
            self._write_arrived()

    def settled(self, timeout_s: float) -> bool:
        """Wait until all that was queued before is written; False where it isn't in time."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout_s) and not self._unsettled

    def stop(self, timeout_s: float = 10.0) -> None:
        """Write what is queued, give up the worker's place, and end."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._store = open_store(self._url)
            self._register()
        except StoreError as error:
            self._failed = error
            return
        finally:
            self._ready.set()
        next_tick = 0.0
        stopping = False
        while not stopping:
            wait_s = max(0.0, next_tick - time.monotonic())
            if self._waiting:
                wait_s = min(wait_s, POLL_S)
            reserves, stopping, marks = self._take(wait_s)
            with self._lock:
                settles = self._ended()
                if self._unsettled and (stopping or marks or time.monotonic() >= next_tick):
                    settles, self._unsettled = self._unsettled + settles, []
                if reserves or settles or self._waiting:
                    waited, self._waiting = self._waiting, []
                    self._write([*waited, *reserves], settles)
            self._deliver()
            if time.monotonic() >= next_tick:
                with self._lock:
                    self._tick()
                next_tick = time.monotonic() + (RETRY_S if self._unsettled else HEARTBEAT_S)
            for mark in marks:
                mark.set()
        self._end()

    def _take(self, wait_s: float) -> tuple[list[Reserve], bool, list[threading.Event]]:
        """Calls that have queued up, at most a group; whether to stop; who waits for it all to
        be done.
        """
        found: list[Reserve] = []
        marks: list[threading.Event] = []
        try:
            item = self._queue.get(timeout=wait_s) if wait_s else self._queue.get_nowait()
            while True:
                if item is None:
                    return found, True, marks
                if isinstance(item, Reserve):
                    found.append(item)
                elif item is not _NUDGE:
                    marks.append(item)
                if len(found) >= GROUP:
                    return found, False, marks
                item = self._queue.get_nowait()
        except queue.Empty:
            return found, False, marks

    def _write(self, reserves: Sequence[Reserve], settles: Sequence[Settle]) -> None:
        """One transaction for all; where it fails, one for each: a bad operation fails alone."""
        try:
            verdicts = self._transact(reserves, settles)
            self._took(verdicts)
        except Exception as error:
            # Whatever it was, this thread goes on: without it no call would ever be answered.
            if len(reserves) + len(settles) > 1 and not self._is_down(error):
                for settle in settles:
                    self._write((), (settle,))
                for reserve in reserves:
                    self._write((reserve,), ())
                return
            self._fail(reserves, settles, error)
            return
        decided, blocked = _split(reserves, verdicts)
        self._delivered += decided
        self._waiting += blocked

    def _transact(
        self, reserves: Sequence[Reserve], settles: Sequence[Settle]
    ) -> list[Verdict | Blocked]:
        try:
            return self._batch.run(reserves, settles)
        except LateError:
            self._store.rollback()
            try:
                return self._batch.run(reserves, settles, careful=True)
            except BaseException:
                self._store.rollback()
                raise
        except BaseException:
            self._store.rollback()
            raise

    def _is_down(self, error: Exception) -> bool:
        """Whether trying the operations one by one is pointless."""
        said = str(error).lower()
        return any(word in said for word in ("full", "locked", "connection", "readonly", "i/o"))

    def _fail(
        self, reserves: Sequence[Reserve], settles: Sequence[Settle], error: Exception
    ) -> None:
        self._report(error)
        if isinstance(error, StoreError):
            self._unsettled.extend(settles)
        else:
            # Nothing the database said: trying again would fail again. The reservation expires.
            self._lament(settles)
        self._delivered += [(r.future, LedgerUnavailableError(self.problem)) for r in reserves]

    def _deliver(self) -> None:
        if not self._delivered:
            return
        delivered, self._delivered = self._delivered, []
        loop = delivered[0][0].get_loop()
        try:
            loop.call_soon_threadsafe(self._resolve, delivered)
        except RuntimeError:
            # The loop is closed: nobody will make these calls any more.
            self.give_back(verdict for _, verdict in delivered)

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

    def give_back(self, verdicts: Iterable[Verdict | Exception]) -> None:
        """Settle calls that were allowed and will not be made."""
        for verdict in verdicts:
            if isinstance(verdict, Reservation):
                self.settle(
                    Settle(verdict, "cancelled", 499, OTHER, "", True, "", ended_ms=self._clock())
                )

    def _register(self) -> None:
        self._presence = Presence(self._store, self._clock())
        worker = self._presence.worker
        ids, keys = Ids(worker), KeyCache()
        self._batch = Batch(self._store, worker, ids, keys, self._clock)
        quick = open_quick_store(self._url)
        if quick is not None:
            self._quick = Batch(quick, worker, ids, keys, self._clock)
            self._quick_store = quick

    def _tick(self) -> None:
        """Show that we live, hold or take the reporter's lease, release what the dead held."""
        now = self._clock()
        try:
            self.leads = self._presence.beat(now)
            for call in self._batch.expire(now - DEAD_AFTER_MS):
                _log.warning(
                    "released the reservation of %s (user %s, model %s): its process died or "
                    "hung; it cost %s USD at most",
                    text(call.id), call.user_id, call.model, usd(call.reserved),
                )  # fmt: skip
            if self.problem and not self._unsettled:
                # A heartbeat changes a row in place: a full disk may let it pass, and no call.
                self._probe()
        except Exception as error:
            self._store.rollback()
            self.leads = False
            self._report(error)

    def _took(self, verdicts: Iterable[Verdict | Blocked]) -> None:
        """A successful reserve proves the store is writable; settles need almost no space."""
        if self.problem and any(isinstance(verdict, Reservation) for verdict in verdicts):
            self.problem = ""

    def _probe(self) -> None:
        """Find out whether calls could be written again, though none may come to try it."""
        try:
            self._presence.probe()
            self.problem = ""
        except StoreError as error:
            self._store.rollback()
            self._report(error)

    def _lament(self, settles: Iterable[Settle]) -> None:
        for settle in settles:
            _log.critical(
                "%s of user %s could not be written to the ledger: it cost %s USD",
                text(settle.reservation.id), settle.reservation.user_id, usd(settle.cost),
            )  # fmt: skip

    def _report(self, error: Exception) -> None:
        if not self.problem:
            _log.error("the ledger can't be written: %s", error)
        self.problem = str(error).strip() or "unknown database error"

    def _end(self) -> None:
        with self._lock:
            if self._quick_store is not None:
                self._quick_store.close()
                self._quick_store = None
            # What has ended since the last round, and what the event loop could not write.
            if settles := self._ended():
                self._write((), settles)
        for reserve in self._waiting:
            self._delivered.append((reserve.future, busy()))
        self._deliver()
        self._lament(self._unsettled)
        try:
            self._presence.leave()
        except StoreError as error:
            _log.warning("the ledger could not be left in order: %s", error)
        self._store.close()


def _split(
    reserves: Sequence[Reserve], verdicts: Sequence[Verdict | Blocked]
) -> tuple[list[Delivery], list[Reserve]]:
    """Calls that are decided, with their verdicts, and those that wait for open reservations."""
    decided: list[Delivery] = []
    blocked = []
    for reserve, verdict in zip(reserves, verdicts, strict=True):
        if isinstance(verdict, Blocked):
            blocked.append(reserve)
        else:
            decided.append((reserve.future, verdict))
    return decided, blocked
