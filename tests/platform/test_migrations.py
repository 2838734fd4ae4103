"""The platform's database: version 1 is adopted, a newer one refused.

``version1`` has a database as the program wrote it before migrations existed, dumped as SQL by
sqlite3's ``iterdump``: a container of the platform's, an adopted one, one half removed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from telemetry.errors import TelemetryError
from telemetry.services.platform.state.desired import Totals
from telemetry.services.platform.state.store import Record, Revocation, Store

OLD = Path(__file__).parent / "version1" / "platform.sql"


def test_database_of_version_1_is_opened_without_loss_and_written(tmp_path: Path) -> None:
    path = tmp_path / "platform.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD.read_text())
    with closing(Store(path)) as store:
        assert (store.platform_id, store.engine_id) == ("5affeb128131", "ENGINE:0001")
        adopted, ann, gone = store.all()
        assert adopted == Record("adopted", "c2" * 32, wanted=True, created_ms=1796133354983)
        assert ann == Record(
            "ann",
            container_id="c1" * 32,
            wanted=True,
            spec={"image": "python:3.12-slim", "env": {"A": "1"}},
            key_id="key_3eeb0679522477f9",
            created_ms=1796133354975,
            totals=Totals(3, 1, 2, "2026-12-01T13:00:00Z", 1),
            logs_until="2026-12-01T13:05:00.000000001Z",
        )
        assert (gone.phase, gone.wanted) == ("removing", False)
        owed = Revocation(1, "gone", "key_dd4cce447da2cacb", 1796133354985, 1796133355002)
        assert store.revocations() == [owed]
        store.begin("new", {"image": "x"})
        store.revoked(owed)
    with closing(Store(path)) as again:
        assert [record.handle for record in again.all()] == ["adopted", "ann", "gone", "new"]
        assert again.revocations() == []


def test_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "platform.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE schema_version SET version = 1000")
    for _ in range(2):  # the first refusal leaves no lock behind
        with pytest.raises(TelemetryError, match=r"newer version .*platform\.db.* 1000") as refused:
            Store(path)
        assert "upgrade container-telemetry" in refused.value.remedy
