"""The desired state: what changes it, that it persists, that writes are atomic."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from telemetry.errors import TelemetryError
from telemetry.services.http import HTTPError
from telemetry.services.platform.state.desired import Totals
from telemetry.services.platform.state.store import Record, Store


@contextmanager
def opened(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "home" / "platform.db")
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path) as store:
        yield store


def made(store: Store, handle: str = "ann", container_id: str = "c1") -> None:
    store.begin(handle, {"image": "x"})
    store.change(handle, phase="made", wanted=True, container_id=container_id)


def test_records_survive_the_process(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        identity = store.platform_id
        made(store)
        store.change("ann", key_id="key_1")
        store.save_totals("ann", Totals(restarts=3, oom_kills=1, docker_restarts=2, run="then"))
        store.started("bob", "c2")
        store.save_logs_until("bob", "c2", "2026-01-01T00:00:00.000000001Z")
        records = store.all()
    with opened(tmp_path) as again:
        assert again.platform_id == identity
        assert again.all() == records
        assert again.wanted("ann")
        assert again.totals("ann") == Totals(3, 1, 2, "then")


def test_database_is_readable_by_its_owner_only(store: Store) -> None:
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


def test_second_platform_on_the_same_folder_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(TelemetryError, match="a platform runs already"), opened(tmp_path):
        pass


def test_handle_can_be_taken_once(store: Store) -> None:
    store.begin("ann", {})
    with pytest.raises(HTTPError) as caught:
        store.begin("ann", {})
    assert caught.value.status == 409
    store.forget("ann")
    store.begin("ann", {})


def test_adopted_container_is_wanted_until_it_is_stopped(store: Store) -> None:
    store.started("bob", "c1")
    assert store.wanted("bob")
    store.stopped("bob")
    assert not store.wanted("bob")
    store.started("bob", "c1")
    assert store.wanted("bob")
    store.removed("bob", "another")
    assert store.wanted("bob"), "that was not its container"
    store.removed("bob", "c1")
    assert store.get("bob") is None
    assert store.totals("bob") == Totals()


def test_recreated_adopted_container_keeps_its_totals(store: Store) -> None:
    store.started("bob", "c1")
    store.save_totals("bob", Totals(restarts=2))
    store.save_logs_until("bob", "c1", "then")
    store.started("bob", "c2")
    record = store.get("bob")
    assert record is not None
    assert (record.container_id, record.totals.restarts, record.logs_until) == ("c2", 2, "")


def test_key_of_a_container_removed_by_docker_is_still_revoked(store: Store) -> None:
    made(store)
    store.removed("ann", "c1")
    record = store.get("ann")
    assert record is not None
    assert (record.phase, record.wanted) == ("removing", False)


def test_stop_event_of_a_restart_does_not_change_desired_state(store: Store) -> None:
    made(store)
    store.restarting("ann")
    assert not store.wanted("ann"), "down for now"
    store.change("ann", wanted=True)  # it could not be started again
    store.stopped("ann")
    assert store.wanted("ann")
    store.started("ann", "c1")
    store.stopped("ann")
    assert not store.wanted("ann"), "the next one is somebody's"


def test_events_are_ignored_during_an_operation(store: Store) -> None:
    store.begin("ann", {})
    store.started("ann", "c1")
    assert not store.wanted("ann")
    store.removed("ann", "c1")
    assert store.get("ann") is not None


def test_events_of_unknown_containers_change_nothing(store: Store) -> None:
    store.stopped("eve")
    store.removed("eve", "c9")
    store.save_totals("eve", Totals(restarts=1))
    store.change("eve", wanted=True)
    assert store.all() == []


def test_revocations_are_stored_until_they_are_done(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.owe_revocation(Record("ann", key_id="key_1", created_ms=5))
    with opened(tmp_path) as again:
        (owed,) = again.revocations()
        assert (owed.handle, owed.key_id, owed.from_ms) == ("ann", "key_1", 5)
        again.revoked(owed)
        assert again.revocations() == []


def test_store_belongs_to_the_first_engine(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.belongs_to("one")
    with opened(tmp_path) as again:
        assert not again.belongs_to("two")
        assert again.belongs_to("one")


def test_full_disk_is_reported_to_callers_and_does_not_stop_the_watcher(store: Store) -> None:
    """To SQLite, a limit on the database's pages is a full disk."""
    made(store)
    pages = store._db.execute("pragma page_count").fetchone()[0]
    store._db.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(HTTPError) as caught:
        store.begin("bob", {"image": "x" * 100_000})
    assert caught.value.status == 507
    assert "free space" in caught.value.remedy
    assert store.get("bob") is None, "a container that is not stored must not be started"
    for n in range(100):
        store.started(f"bob-{n}", "c" * 1000)
    assert store.wanted("bob-99")


def test_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "home" / "platform.db"
    path.parent.mkdir()
    path.write_text("not a database, but long enough to be mistaken for one " * 100)
    with pytest.raises(TelemetryError, match="can't be opened"), opened(tmp_path):
        pass
