"""The interaction log: one whole line for each dispatch, whatever its outcome."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from telemetry import testing
from telemetry.services.gateway import interaction_log
from telemetry.services.gateway.interaction_log import Entry, InteractionLog, append
from tests.gateway.conftest import Gateway

NOON = datetime(2026, 5, 17, 12, 0, 0, 123456, tzinfo=UTC)
DAY = NOON.date()


def entry(**changes: Any) -> Entry:
    values: dict[str, Any] = {
        "source": "web",
        "session": "s1",
        "prompt": "How is demo-1?",
        "tools": ["costs"],
        "tokens_in": 12,
        "tokens_out": 5,
        "cost_usd": Decimal("0.000111"),
        "duration_ms": 1500,
        "status": "ok",
        "result": "Fine.",
        "model": "claude-sonnet-4-6",
        "trace_id": "ab" * 16,
    }
    return Entry(**values | changes)


@pytest.fixture
def recorded() -> Iterator[testing.Recorded]:
    with testing.isolated() as recorded:
        yield recorded


@pytest.fixture
async def log(tmp_path: Path, recorded: testing.Recorded) -> AsyncIterator[InteractionLog]:
    log = InteractionLog(tmp_path / "logs", "demo-1", clock=lambda: NOON)
    yield log
    log.close()


async def lines(log: InteractionLog, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
    return [json.loads(line) async for line in log.read(DAY, after, limit)]


async def test_a_line_has_every_field(log: InteractionLog, tmp_path: Path) -> None:
    await log.write(entry())
    assert await lines(log) == [
        {
            "timestamp": "2026-05-17T12:00:00.123Z",
            "source": "web",
            "sessionId": "s1",
            "prompt": "How is demo-1?",
            "toolsUsed": ["costs"],
            "tokensIn": 12,
            "tokensOut": 5,
            "costUsd": 0.000111,
            "durationMs": 1500,
            "status": "ok",
            "result": "Fine.",
            "handle": "demo-1",
            "model": "claude-sonnet-4-6",
            "traceId": "ab" * 16,
        }
    ]
    assert (tmp_path / "logs" / "activity.log").read_text() == (
        "2026-05-17T12:00:00.123Z OK        web  1.5s $0.000111 12+5 tokens [costs] "
        f"'How is demo-1?' session=s1 trace={'ab' * 16}\n"
    )
    for path in (tmp_path / "logs").iterdir():
        assert path.stat().st_mode & 0o077 == 0, "prompts are nobody else's business"


async def test_prompts_and_results_are_redacted_before_they_are_cut(log: InteractionLog) -> None:
    secret = "sk-ant-" + "a1b2c3d4" * 5
    await log.write(
        entry(prompt="x" * 490 + f" {secret}", result=f"key {secret} {'é' * 600}\nline two")
    )
    (line,) = await lines(log)
    assert line["prompt"] == "x" * 490 + " [redacted"
    assert line["result"] == f"key [redacted] {'é' * 600}"[:500]


async def test_line_feeds_in_texts_are_escaped(log: InteractionLog, tmp_path: Path) -> None:
    await log.write(entry(prompt="one\ntwo\r\nthree\u2028four", result="a\nb"))
    raw = (tmp_path / "logs" / "2026-05-17.jsonl").read_bytes()
    assert raw.count(b"\n") == 1
    assert (await lines(log))[0]["prompt"] == "one\ntwo\r\nthree\u2028four"
    assert (tmp_path / "logs" / "activity.log").read_bytes().count(b"\n") == 1


async def test_read_skips_and_limits_lines(log: InteractionLog) -> None:
    for n in range(300):
        await log.write(entry(prompt=f"{n} " + "x" * 480))  # more than one chunk of the reader's
    found = [line["prompt"].split()[0] for line in await lines(log, after=250, limit=20)]
    assert found == [str(n) for n in range(250, 270)]
    assert len(await lines(log, after=290)) == 10
    assert await lines(log, after=300) == []
    assert [line async for line in log.read(date(1999, 1, 1), 0, 10)] == []


async def test_each_day_has_its_file_and_old_ones_are_removed(
    tmp_path: Path, recorded: testing.Recorded
) -> None:
    now = NOON
    log = InteractionLog(tmp_path, retention_days=3, clock=lambda: now)
    for _ in range(6):
        await log.write(entry())
        now += timedelta(days=1)
    log.close()
    kept = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert kept == [f"2026-05-{day}.jsonl" for day in (19, 20, 21, 22)]


async def test_activity_log_is_rotated_by_size(
    log: InteractionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interaction_log, "ACTIVITY_BYTES", 1000)
    for n in range(12):
        await log.write(entry(session=f"n{n}"))
    folder = tmp_path / "logs"
    old, new = (folder / "activity.log.1").read_text(), (folder / "activity.log").read_text()
    assert "session=n11" in new
    assert 1000 <= len(old) < 1300
    assert len(await lines(log)) == 12, "the day's file is whole"


WRITER = """
import json, sys
from pathlib import Path
from telemetry.services.gateway.interaction_log import append
path, name, rotate_bytes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for n in range(400):
    append(path, json.dumps({"who": name, "n": n, "pad": name * (n % 300)}).encode() + b"\\n",
           rotate_bytes)
"""


@pytest.mark.parametrize("rotate_bytes", [0, 100_000])
def test_concurrent_processes_never_tear_a_line(tmp_path: Path, rotate_bytes: int) -> None:
    path = tmp_path / "shared.jsonl"
    workers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, name, str(rotate_bytes)])
        for name in "abc"
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    found: dict[str, list[int]] = {}
    paths = [tmp_path / "shared.jsonl.1", path]
    for line in "".join(path.read_text() for path in paths if path.exists()).splitlines():
        row = json.loads(line)
        assert row["pad"] == row["who"] * (row["n"] % 300)
        found.setdefault(row["who"], []).append(row["n"])
    if rotate_bytes:
        # Older files than the last two are gone; their lines are complete and in order.
        last = {who: rows[-1] for who, rows in found.items()}
        assert set(last.values()) == {399}
        assert all(rows == list(range(rows[0], 400)) for rows in found.values())
        assert paths[0].stat().st_size < rotate_bytes + 1000
    else:
        assert found == {name: list(range(400)) for name in "abc"}


async def test_full_disk_is_counted_and_does_not_raise(
    log: InteractionLog, tmp_path: Path, recorded: testing.Recorded, caplog: Any
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "2026-05-17.jsonl").symlink_to("/dev/full")
    await log.write(entry())
    assert recorded.value("gateway_interaction_log_failures_total", reason="disk") == 1
    assert "No space left on device" in caplog.text
    (tmp_path / "logs" / "2026-05-17.jsonl").unlink()
    await log.write(entry())
    assert len(await lines(log)) == 1, "as soon as there is space again"
    assert recorded.value("gateway_interaction_log_failures_total") == 1


async def test_folder_that_can_not_be_created_is_counted(
    tmp_path: Path, recorded: testing.Recorded
) -> None:
    (tmp_path / "file").write_text("")
    log = InteractionLog(tmp_path / "file" / "logs")
    await log.write(entry())
    log.close()
    assert recorded.value("gateway_interaction_log_failures_total", reason="disk") == 1


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A small file system; skip if it can't be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system, where mounting is allowed")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_partly_written_line_is_truncated(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "16k") as disk:
        line = b"x" * 1499 + b"\n"
        for _ in range(3):
            append(disk / "log", line)
        room = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "rest").write_bytes(b"x" * room)
        # Four fill the page that the file has already; for the next there is no other page.
        written = 3
        with suppress(OSError):
            while written < 99:
                append(disk / "log", line)
                written += 1
        assert 3 <= written < 99
        assert (disk / "log").read_bytes() == line * written


def test_dispatch_is_answered_if_its_line_can_not_be_written(
    start_gateway: Callable[..., Gateway], proxy: Any, tmp_path: Path, recorded: testing.Recorded
) -> None:
    gateway = start_gateway(proxy.url)
    (gateway.home / "logs").write_text("not a folder")
    (gateway.home / "sessions").write_text("not a folder either")
    done = gateway.ask("Hello", "s1")[-1]
    assert (done["status"], done["tokensOut"]) == ("ok", 4)
    assert recorded.value("gateway_interaction_log_failures_total", reason="disk") == 1
    assert recorded.value("gateway_kernel_dispatch_total", source="api", status="ok") == 1


async def test_hanging_disk_does_not_delay_an_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(gateway.ask, "Hello")
    await asyncio.to_thread(gateway.wait_lines)
    monkeypatch.setattr("telemetry.services.gateway.dispatcher.LOG_WAIT_S", 0.05)
    (path,) = (gateway.home / "logs").glob("*.jsonl")
    with path.open("ab") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)  # as a worker would whose disk hangs
        received = await asyncio.to_thread(gateway.ask, "Hello again")
        assert received[-1]["status"] == "ok"
        assert len(gateway.lines()) == 1
    assert len(await asyncio.to_thread(gateway.wait_lines, 2)) == 2, "it is written in the end"


def test_logs_route_checks_its_parameters(gateway: Gateway) -> None:
    for n in range(3):
        gateway.ask(f"Hello {n}")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    response = gateway.get(f"/api/logs?date={today}&after=1&limit=1")
    assert response.headers["content-type"] == "application/x-ndjson"
    assert json.loads(response.text)["prompt"] == "Hello 1"
    assert gateway.get("/api/logs").text.count("\n") == 3, "today, unless told otherwise"
    assert gateway.get("/api/logs?date=1999-01-01").text == ""
    for wrong in (
        "date=yesterday",
        "date=2026-13-01",
        "date=../../x",
        "limit=0",
        "after=-1",
        "limit=x",
    ):
        response = gateway.get(f"/api/logs?{wrong}")
        assert response.status_code == 400, wrong
        assert "date=YYYY-MM-DD" in response.json()["error"]["message"]
