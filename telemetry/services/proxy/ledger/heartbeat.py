"""Keep track of the processes that write the ledger, and of those that died."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable

from telemetry.services.proxy.ledger.batch import Batch, Expired
from telemetry.services.proxy.ledger.call_ids import text
from telemetry.services.proxy.ledger.health import Health
from telemetry.services.proxy.ledger.stores import Store, StoreError
from telemetry.services.proxy.pricing.money import usd

HEARTBEAT_S = 2.0
# Five heartbeats: a stalled machine is not a dead one.
DEAD_AFTER_MS = 10_000
# Three heartbeats, so that one late one doesn't change the reporter.
LEASE_MS = 6_000
# Several of a database's pages, so that it has to find room for them.
PROBE_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


class Presence:
    """This process's row among the ledger's workers.

    Args:
        store: the writer's connection.
        now_ms: ms since the epoch.
    """

    def __init__(self, store: Store, now_ms: int) -> None:
        self._store = store
        self._where = f"{socket.gethostname()}:{_pid_namespace()}:"
        self._name = f"{self._where}{os.getpid()}"
        sql = "INSERT INTO workers (name, heartbeat_ms) VALUES (?, ?) RETURNING id"
        self.worker = int(store.rows(sql, (self._name, now_ms))[0][0])

    def beat(self, now_ms: int) -> bool:
        """Show that this process lives, forget dead ones; returns whether it leads.

        Raises:
            StoreError: the ledger can't be written.
        """
        store = self._store
        if not store.run("UPDATE workers SET heartbeat_ms = ? WHERE id = ?", (now_ms, self.worker)):
            # Another process took this one for dead, e.g. after the machine slept.
            sql = "INSERT INTO workers (id, name, heartbeat_ms) VALUES (?, ?, ?)"
            store.run(sql, (self.worker, self._name, now_ms))
        for number, name in store.rows("SELECT id, name FROM workers"):
            if number != self.worker and self._is_gone(str(name)):
                store.run("DELETE FROM workers WHERE id = ?", (number,))
        # A dead worker's reservations are released by its old heartbeat; then its row may go.
        store.run("DELETE FROM workers WHERE heartbeat_ms < ?", (now_ms - 10 * DEAD_AFTER_MS,))
        lease = (
            "INSERT INTO leases (name, worker, expires_ms) VALUES ('reporter', ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET worker = excluded.worker, "
            "expires_ms = excluded.expires_ms "
            "WHERE leases.worker = excluded.worker OR leases.expires_ms < ? "
            "OR leases.worker NOT IN (SELECT id FROM workers)"
        )
        return bool(store.run(lease, (self.worker, now_ms + LEASE_MS, now_ms)))

    def probe(self) -> None:
        """Write as much as a call may need, and delete it.

        Raises:
            StoreError: the ledger has no room, though a row could be changed in place.
        """
        store = self._store
        store.begin()
        sql = "INSERT INTO workers (name, heartbeat_ms) VALUES (?, 0) RETURNING id"
        number = store.rows(sql, ("x" * PROBE_BYTES,))[0][0]
        store.run("DELETE FROM workers WHERE id = ?", (number,))
        store.commit()

    def leave(self) -> None:
        """Delete the row, so that another process may lead at once.

        Raises:
            StoreError: the ledger can't be written.
        """
        self._store.run("DELETE FROM workers WHERE id = ?", (self.worker,))

    def _is_gone(self, name: str) -> bool:
        """Whether a worker of this machine has ended; one of another machine shows it only by its
        heartbeat.
        """
        pid = name.removeprefix(self._where)
        if pid == name or not pid.isdigit():
            return False
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class Heartbeat:
    """Housekeeping in the ledger, every `HEARTBEAT_S`.

    Args:
        presence: this process's row.
        batch: releases the reservations of dead processes.
        health: told whether the ledger can be written.
        clock: ms since the epoch.
    """

    def __init__(
        self, presence: Presence, batch: Batch, health: Health, clock: Callable[[], int]
    ) -> None:
        self._presence = presence
        self._batch = batch
        self._health = health
        self._clock = clock
        self.leads = False

    def beat(self, *, probe: bool) -> None:
        """Show that this process lives, take or keep the reporter's lease, release the
        reservations of dead processes.

        Args:
            probe: whether to check if a ledger that could not be written is writable again, even
                if no call comes to try it.
        """
        now_ms = self._clock()
        try:
            self.leads = self._presence.beat(now_ms)
            for call in self._batch.expire(now_ms - DEAD_AFTER_MS):
                _log_released(call)
        except Exception as error:
            self._failed(error)
            return
        if probe and self._health.problem:
            self._probe()

    def leave(self) -> None:
        """Delete this process's row, so that another may lead at once."""
        try:
            self._presence.leave()
        except StoreError as error:
            _log.warning("the ledger could not be left in order: %s", error)

    def _probe(self) -> None:
        # A heartbeat changes a row in place, which may work on a disk too full for a call.
        try:
            self._presence.probe()
        except Exception as error:
            self._batch.store.rollback()
            self._health.failed(error)
        else:
            self._health.recovered()

    def _failed(self, error: Exception) -> None:
        self._batch.store.rollback()
        self.leads = False
        self._health.failed(error)


def _log_released(call: Expired) -> None:
    message = (
        "released the reservation of %s (user %s, model %s): its process died or hung; "
        "it cost %s USD at most"
    )
    _log.warning(message, text(call.id), call.user_id, call.model, usd(call.reserved))


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "pid"
