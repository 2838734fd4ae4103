"""A ledger that is full, unavailable, broken or unreadable: calls are refused, none is lost."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry.services.proxy.ledger.stores import StoreError
from telemetry.services.proxy.ledger.writer import Writer
from tests.proxy.conftest import ADMIN, MESSAGE, Running, still_works, wait_for

Start = Callable[..., Running]


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_full_disk_refuses_calls_and_loses_none(proxy: Running, steer: Any) -> None:
    """A database at its largest size answers as one on a full disk does (SQLITE_FULL)."""
    key = proxy.key()
    writer: Writer = proxy.proxy.ledger._writer
    slow = {**MESSAGE, "stream": True}
    with httpx.stream(
        "POST",
        f"{proxy.url}/v1/messages",
        json=slow,
        timeout=30,
        headers={"x-api-key": key, **steer(chunks=40, gap=0.05)},
    ) as answer:
        hold_at(writer, writer._thread.batch.store.rows("PRAGMA page_count")[0][0])
        fill(writer)
        # The last page may still have room for a few calls.
        refused = wait_for(
            lambda: (found := proxy.post("/v1/messages", key, MESSAGE)).is_error and found
        )
        assert refused.status_code == 503
        assert "ledger can't be used" in refused.json()["error"]["message"]
        assert httpx.get(f"{proxy.url}/health").status_code == 503
        assert "message_stop" in "".join(answer.iter_text())
    hold_at(writer, 1_073_741_823)
    wait_for(lambda: httpx.get(f"{proxy.url}/health").status_code == 200)
    (row,) = [row for row in proxy.calls() if row.stream]
    assert (row.status, row.output) == ("ok", 40), "what was spent while the disk was full"
    still_works(proxy)


def hold_at(writer: Writer, pages: int) -> None:
    """Let the ledger grow no further, by any of the connections that write it."""
    assert writer._quick is not None
    for batch in (writer._thread.batch, writer._quick):
        batch.store.rows(f"PRAGMA max_page_count={pages}")


def fill(writer: Writer) -> None:
    """Use up the free pages."""
    insert = "INSERT INTO keys (id, user_id, digest, hint, created_ms) VALUES (?, 'ann', ?, '', 0)"
    rows = [(f"filler{number}", f"{number:0500d}") for number in range(10_000)]
    with pytest.raises(StoreError, match="full"):
        # One by one: what went in before the last page is to stay.
        deque((writer._thread.batch.store.run(insert, row) for row in rows), maxlen=0)


def test_unavailable_ledger_gives_503(proxy: Running) -> None:
    """A database without its tables stands for one that can't be reached."""
    key = proxy.key()
    with proxy.proxy.ledger.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE calls")
        connection.exec_driver_sql("DROP TABLE keys")
    for method, path in (("GET", "/api/keys"), ("GET", "/api/costs")):
        answer = httpx.request(method, proxy.url + path, headers=ADMIN)
        assert (answer.status_code, "ledger" in answer.json()["error"]["message"]) == (503, True)
    looked_up = httpx.get(f"{proxy.url}/api/calls/call_{0:016x}", headers={"x-api-key": key})
    assert looked_up.status_code == 503
    large = {**MESSAGE, "padding": "x" * 100_000}
    for path, body in (
        ("/v1/messages", MESSAGE),
        ("/v1/messages", large),
        ("/v1/messages/count_tokens", MESSAGE),
    ):
        answer = proxy.post(path, key, body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "api_error")
        assert answer.headers["retry-after"] == "5"


def test_call_that_fits_no_column_fails_alone(
    proxy: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even a mistake of our own stops the ledger."""
    real = proxy.proxy.prices.rates("anthropic", MESSAGE["model"])
    assert real is not None
    one = replace(real.tiers[0][1], output=10**40)
    proxy.proxy.prices._overrides = [("claude-haiku-4-5", replace(real, tiers=((0, one),)))]
    key = proxy.key()
    bad = proxy.post("/v1/messages", key, {**MESSAGE, "model": "claude-haiku-4-5"})
    assert bad.status_code == 503
    still_works(proxy)
    assert httpx.get(f"{proxy.url}/health").status_code == 200


def test_a_ledger_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    from telemetry.errors import TelemetryError
    from telemetry.services.proxy.ledger.ledger import Ledger

    (tmp_path / "file").write_text("")
    with pytest.raises(TelemetryError, match="can't be made"):
        Ledger(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}")
    (tmp_path / "ledger.db").write_text("this is no database, but it is long enough to be read")
    with pytest.raises(TelemetryError, match="can't be opened"):
        Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    with pytest.raises(TelemetryError, match="mysql"):
        Ledger("mysql://host/db")


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_ledger_files_are_private(start_proxy: Start, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = tmp_path / "state"
        proxy = start_proxy(TELEMETRY_LEDGER_URL=f"sqlite:///{folder / 'ledger.db'}")
        still_works(proxy)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}
    finally:
        os.umask(before)
    assert modes == {
        "state": 0o700,
        "ledger.db": 0o600,
        "ledger.db-wal": 0o600,
        "ledger.db-shm": 0o600,
    }
