"""The thread that writes the ledger whenever the event loop can't wait for it.

While it runs a transaction, the next calls queue up and share the following one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from telemetry.services.proxy.ledger.backlog import Backlog
from telemetry.services.proxy.ledger.batch import Batch, LateError
from telemetry.services.proxy.ledger.call_ids import text
from telemetry.services.proxy.ledger.health import Health
from telemetry.services.proxy.ledger.heartbeat import HEARTBEAT_S, Heartbeat
from telemetry.services.proxy.ledger.operations import (
    LedgerUnavailableError,
    Reserve,
    Settle,
    Verdict,
)
from telemetry.services.proxy.ledger.quota import Blocked, busy
from telemetry.services.proxy.ledger.stores import StoreError
from telemetry.services.proxy.pricing.money import usd

# How often calls that wait look again for what other workers settled; chosen by judgement, not
# measured.
POLL_S = 0.02
RETRY_S = 0.5

Delivery = tuple[asyncio.Future[Verdict], Verdict | Exception]

_log = logging.getLogger(__name__)


class WriterThread:
    """Writes the backlog and beats the heart.

    Args:
        batch: runs the transactions; waits for other processes' locks.
        heartbeat: called every `HEARTBEAT_S`.
        backlog: what to write.
        health: told of failures.
        deliver: called in the event loop with the verdicts.
        give_back: called with verdicts for an event loop that is closed.
    """

    def __init__(
        self,
        batch: Batch,
        heartbeat: Heartbeat,
        backlog: Backlog,
        health: Health,
        deliver: Callable[[list[Delivery]], None],
        give_back: Callable[[Iterable[Verdict | Exception]], None],
    ) -> None:
        self.batch = batch
        self._heartbeat = heartbeat
        self._backlog = backlog
        self._health = health
        self._deliver = deliver
        self._give_back = give_back
        self._waiting: list[Reserve] = []
        self._unsettled: list[Settle] = []
        self._delivered: list[Delivery] = []
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    @property
    def leads(self) -> bool:
        """Whether this process reports the ledger's numbers."""
        return self._heartbeat.leads

    @property
    def has_unsettled(self) -> bool:
        """Whether calls have ended that could not be written yet."""
        return bool(self._unsettled)

    @property
    def is_behind(self) -> bool:
        """Whether calls wait here, which others must not overtake."""
        return bool(self._waiting or self._unsettled)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait until the backlog is written and the thread has ended."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        next_beat = 0.0
        stopping = False
        while not stopping:
            wait_s = max(0.0, next_beat - time.monotonic())
            if self._waiting:
                wait_s = min(wait_s, POLL_S)
            reserves, stopping, marks = self._backlog.take(wait_s)
            with self._backlog.lock:
                settles = self._backlog.take_settles()
                if self._unsettled and (stopping or marks or time.monotonic() >= next_beat):
                    settles, self._unsettled = self._unsettled + settles, []
                if reserves or settles or self._waiting:
                    waited, self._waiting = self._waiting, []
                    self._write([*waited, *reserves], settles)
            self._hand_over()
            if time.monotonic() >= next_beat:
                with self._backlog.lock:
                    self._heartbeat.beat(probe=not self._unsettled)
                next_beat = time.monotonic() + (RETRY_S if self._unsettled else HEARTBEAT_S)
            for mark in marks:
                mark.set()
        self._end()

    def _write(self, reserves: Sequence[Reserve], settles: Sequence[Settle]) -> None:
        """One transaction for all; where it fails, one for each: a bad operation fails alone."""
        try:
            verdicts = self._transact(reserves, settles)
        except Exception as error:
            # This thread must continue after any error: without it no call would be answered.
            if len(reserves) + len(settles) > 1 and not _is_down(error):
                for settle in settles:
                    self._write((), (settle,))
                for reserve in reserves:
                    self._write((reserve,), ())
                return
            self._fail(reserves, settles, error)
            return
        self._health.decided(verdicts)
        decided, blocked = split(reserves, verdicts)
        self._delivered += decided
        self._waiting += blocked

    def _transact(
        self, reserves: Sequence[Reserve], settles: Sequence[Settle]
    ) -> list[Verdict | Blocked]:
        try:
            return self.batch.run(reserves, settles)
        except LateError:
            return self.batch.run(reserves, settles, careful=True)

    def _fail(
        self, reserves: Sequence[Reserve], settles: Sequence[Settle], error: Exception
    ) -> None:
        self._health.failed(error)
        if isinstance(error, StoreError):
            self._unsettled.extend(settles)
        else:
            # Nothing the database said: trying again would fail again. The reservation expires.
            _log_lost(settles)
        unavailable = LedgerUnavailableError(self._health.problem)
        self._delivered += [(reserve.future, unavailable) for reserve in reserves]

    def _hand_over(self) -> None:
        if not self._delivered:
            return
        delivered, self._delivered = self._delivered, []
        loop = delivered[0][0].get_loop()
        try:
            loop.call_soon_threadsafe(self._deliver, delivered)
        except RuntimeError:
            # The loop is closed: nobody will make these calls any more.
            self._give_back(verdict for _, verdict in delivered)

    def _end(self) -> None:
        with self._backlog.lock:
            # What has ended since the last round, and what the event loop could not write.
            if settles := self._backlog.take_settles():
                self._write((), settles)
        self._delivered += [(reserve.future, busy()) for reserve in self._waiting]
        self._hand_over()
        _log_lost(self._unsettled)
        self._heartbeat.leave()
        self.batch.store.close()


def split(
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


def _is_down(error: Exception) -> bool:
    """Whether trying the operations one by one is pointless."""
    said = str(error).lower()
    return any(word in said for word in ("full", "locked", "connection", "readonly", "i/o"))


def _log_lost(settles: Iterable[Settle]) -> None:
    for settle in settles:
        call, user, cost = settle.reservation.id, settle.reservation.user_id, usd(settle.cost)
        message = "%s of user %s could not be written to the ledger: it cost %s USD"
        _log.critical(message, text(call), user, cost)
