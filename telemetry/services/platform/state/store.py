"""The desired state, stored in ``platform.db`` in the state folder.

All of it is in memory too, so that reading never waits for a disk. What a caller requests is on
disk before it is done, and fails if it can't be written. What Docker reports is kept in memory if
it can't be written: a full disk must not stop the watcher.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sqlite3
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from telemetry.errors import TelemetryError
from telemetry.services.http import HTTPError
from telemetry.services.platform.state.desired import Totals
from telemetry.services.platform.state.migrations import MIGRATIONS
from telemetry.system.file_locks import hold
from telemetry.system.migrations import SQLITE, NewerSchemaError, migrate

_log = logging.getLogger(__name__)

Phase = Literal["making", "made", "removing"]


@dataclass(frozen=True)
class Record:
    """The stored record of a handle.

    Args:
        handle: the handle.
        container_id: Docker's id, "" before it is created.
        phase: ``making`` and ``removing`` while the platform does so; if a record is in these
            phases at the start, a crash interrupted it, and it is undone or finished.
        wanted: whether it must run.
        spec: as requested; None for an adopted container.
        key_id: of its key at the proxy, "" if it has none.
        created_ms: Unix milliseconds.
        totals: restarts and OOM kills so far.
        logs_until: Docker's time of the last log line that was sent, "" if none was.
    """

    handle: str
    container_id: str = ""
    phase: Phase = "made"
    wanted: bool = False
    spec: dict[str, Any] | None = None
    key_id: str = ""
    created_ms: int = 0
    totals: Totals = field(default_factory=Totals)
    logs_until: str = ""

    @property
    def provisioned(self) -> bool:
        """Created by this platform, not adopted."""
        return self.spec is not None


@dataclass(frozen=True)
class Revocation:
    """A key at the proxy that must be revoked, once the proxy answers.

    Args:
        id: of the revocation.
        handle: the handle it was created for.
        key_id: the key; "" if a crash came before the id was written.
        from_ms: without an id, any key created from this time, Unix milliseconds,
        to_ms: to this time.
    """

    id: int
    handle: str
    key_id: str
    from_ms: int
    to_ms: int


class Store:
    """The stored records; a `DesiredState`. Thread-safe.

    Args:
        path: the SQLite file.

    Raises:
        TelemetryError: it can't be opened, or a newer version of this program wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._only_one = -1
        # Their `stop` event is half of a restart, not a user's request, even if Docker reports it
        # late.
        self._restarting: set[str] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._only_one = _lock(path.with_suffix(".lock"))
            # Made by us, since SQLite would make it readable by others.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("pragma journal_mode = wal")
            migrate(self._db.execute, SQLITE, MIGRATIONS)
            self.platform_id, self.engine_id = self._identity()
            self._records = {row["handle"]: _record(row) for row in self._all()}
        except NewerSchemaError as error:
            self.close()
            raise TelemetryError(
                f"a newer version of container-telemetry wrote {path}: {error}",
                remedy="upgrade container-telemetry, or set TELEMETRY_HOME to another folder",
                exit_code=78,  # EX_CONFIG
            ) from None
        except (OSError, sqlite3.Error) as error:
            if self._only_one >= 0:
                os.close(self._only_one)
            raise TelemetryError(
                f"the desired state in {path} can't be opened: {error}",
                remedy="free disk space, or set TELEMETRY_HOME to a folder that you can write",
                exit_code=73,  # EX_CANTCREAT
            ) from error

    def close(self) -> None:
        """Close the database and release the lock."""
        with self._lock:
            self._db.close()
            os.close(self._only_one)

    # --- for the life cycle ---------------------------------------------------------------

    def get(self, handle: str) -> Record | None:
        """Return a handle's record, or None."""
        return self._records.get(handle)

    def all(self) -> list[Record]:
        """Return all records, sorted by handle."""
        with self._lock:
            return [self._records[handle] for handle in sorted(self._records)]

    def begin(self, handle: str, spec: dict[str, Any]) -> Record:
        """Reserve a handle for a container that is about to be created.

        Raises:
            HTTPError: it is taken, or can't be kept.
        """
        with self._lock:
            if handle in self._records:
                raise taken(handle)
            record = Record(handle, phase="making", spec=spec, created_ms=int(time.time() * 1000))
            self._keep(record)
            return record

    def change(self, handle: str, **fields: Any) -> None:
        """Store a change; ignored if the handle has no record by now.

        Raises:
            HTTPError: it can't be kept.
        """
        with self._lock:
            record = self._records.get(handle)
            if record is not None:
                self._keep(replace(record, **fields))

    def restarting(self, handle: str) -> None:
        """Set that the container is about to be restarted: its stop is not a user's request.

        Raises:
            HTTPError: that can't be kept.
        """
        with self._lock:
            self._restarting.add(handle)
            self.change(handle, wanted=False)

    def forget(self, handle: str) -> None:
        """Remove a record; the handle is free again.

        Raises:
            HTTPError: that can't be kept.
        """
        with self._lock:
            self._restarting.discard(handle)
            if self._records.pop(handle, None) is not None:
                self._write("delete from containers where handle = ?", (handle,))

    def belongs_to(self, engine_id: str) -> bool:
        """Tell whether the records are of this engine; they are of the first engine asked about.

        Raises:
            HTTPError: that can't be kept.
        """
        with self._lock:
            if not self.engine_id:
                self._write("update platform set engine_id = ?", (engine_id,))
                self.engine_id = engine_id
            return self.engine_id == engine_id

    def owe_revocation(self, record: Record) -> None:
        """Store that the key of a removed record must be revoked once the proxy answers.

        Raises:
            HTTPError: that can't be kept.
        """
        now = int(time.time() * 1000)
        with self._lock:
            self._write(
                "insert into revocations (handle, key_id, from_ms, to_ms) values (?, ?, ?, ?)",
                (record.handle, record.key_id, record.created_ms, now),
            )

    def revocations(self) -> list[Revocation]:
        """Return the revocations still to do."""
        with self._lock:
            rows = self._db.execute("select * from revocations order by id").fetchall()
        return [Revocation(**row) for row in rows]

    def revoked(self, revocation: Revocation) -> None:
        """Set that a revocation is done.

        Raises:
            HTTPError: that can't be kept.
        """
        with self._lock:
            self._write("delete from revocations where id = ?", (revocation.id,))

    # --- DesiredState -------------------------------------------------------------------------

    def wanted(self, handle: str) -> bool:
        record = self._records.get(handle)
        return record is not None and record.wanted

    def started(self, handle: str, container_id: str) -> None:
        with self._lock:
            self._restarting.discard(handle)
            record = self._records.get(handle)
            if record is None:
                record = Record(handle, container_id, created_ms=int(time.time() * 1000))
            elif record.phase != "made":
                return  # the platform itself is working on it, and will set the desired state
            elif record.container_id != container_id and not record.provisioned:
                # Recreated by its owner: its totals continue, its logs restart.
                record = replace(record, container_id=container_id, logs_until="")
            self._note(replace(record, wanted=True))

    def stopped(self, handle: str) -> None:
        with self._lock:
            record = self._records.get(handle)
            if record is not None and record.wanted and handle not in self._restarting:
                self._note(replace(record, wanted=False))

    def removed(self, handle: str, container_id: str) -> None:
        with self._lock:
            record = self._records.get(handle)
            if record is None or record.phase != "made" or record.container_id != container_id:
                return
            if record.provisioned:
                # Its key has to be revoked, too: the platform finishes that.
                self._note(replace(record, phase="removing", wanted=False))
                return
            try:
                self.forget(handle)
            except HTTPError as problem:
                _log.error("%s", problem.message)

    def totals(self, handle: str) -> Totals:
        record = self._records.get(handle)
        return record.totals if record else Totals()

    def save_totals(self, handle: str, totals: Totals) -> None:
        with self._lock:
            record = self._records.get(handle)
            if record is not None:
                self._note(replace(record, totals=totals))

    def save_logs_until(self, handle: str, container_id: str, until: str) -> None:
        """Store that log lines up to this time have been sent."""
        with self._lock:
            record = self._records.get(handle)
            if record is not None and record.container_id == container_id:
                self._note(replace(record, logs_until=until))

    # --- SQLite -----------------------------------------------------------------------------------

    def _note(self, record: Record) -> None:
        """Store what Docker reported; in memory only if the disk is full."""
        if self._records.get(record.handle) == record:
            return
        try:
            self._keep(record)
        except HTTPError as problem:
            self._records[record.handle] = record
            _log.error("%s", problem.message)

    def _keep(self, record: Record) -> None:
        self._write(
            "insert or replace into containers values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.handle,
                record.container_id,
                record.phase,
                record.wanted,
                None if record.spec is None else json.dumps(record.spec),
                record.key_id,
                record.created_ms,
                json.dumps(asdict(record.totals)),
                record.logs_until,
            ),
        )
        self._records[record.handle] = record

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise HTTPError(
                507,
                f"the desired state in {self.path} can't be written: {error}",
                "free space on its disk, and check that the platform's user may write there",
            ) from error

    def _identity(self) -> tuple[str, str]:
        row = self._db.execute("select id, engine_id from platform").fetchone()
        if row is None:
            made = secrets.token_hex(6)
            self._db.execute("insert into platform values (?, '')", (made,))
            return made, ""
        return str(row["id"]), str(row["engine_id"])

    def _all(self) -> list[sqlite3.Row]:
        return self._db.execute("select * from containers").fetchall()


def _lock(path: Path) -> int:
    """Lock the state while this process lives: two platforms would undo each other's work."""
    try:
        return hold(path)
    except BlockingIOError as error:
        raise TelemetryError(
            f"a platform runs already with the state folder {path.parent}",
            remedy="stop that one, or set TELEMETRY_HOME to another folder",
            exit_code=75,  # EX_TEMPFAIL
        ) from error


def taken(handle: str) -> HTTPError:
    """Return the error for a request for a handle that has a container."""
    return HTTPError(
        409,
        f"handle {handle} has a container already",
        f"DELETE /api/containers/{handle} first, or use another handle",
    )


def _record(row: sqlite3.Row) -> Record:
    return Record(
        row["handle"],
        row["container_id"],
        row["phase"],
        bool(row["wanted"]),
        None if row["spec"] is None else json.loads(row["spec"]),
        row["key_id"],
        row["created_ms"],
        Totals(**json.loads(row["totals"])),
        row["logs_until"],
    )
