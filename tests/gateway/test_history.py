"""Sessions: which turns are stored, how many, and across restarts."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from telemetry.services.gateway import history
from telemetry.services.gateway.history import History


async def test_turns_are_stored_redacted_and_for_their_owner_only(tmp_path: Path) -> None:
    first = History(tmp_path / "sessions")
    key = "sk-ant-" + "a1b2c3d4" * 5
    turn = first.add("s1", "m1", f"my key is {key}", "Keep it to yourself")
    turn["costUsd"] = "0.5"
    await first.save("s1")
    assert History(tmp_path / "sessions").turns("s1") == [
        {
            "id": "m1",
            "prompt": "my key is [redacted]",
            "answer": "Keep it to yourself",
            "at": turn["at"],
            "costUsd": "0.5",
        }
    ]
    (file,) = (tmp_path / "sessions").iterdir()
    assert file.stat().st_mode & 0o077 == 0


async def test_context_has_the_last_answered_turns(tmp_path: Path) -> None:
    kept = History(tmp_path)
    for n in range(15):
        kept.add("s1", f"m{n}", f"p{n}", "" if n == 13 else f"a{n}")
    pairs = kept.context("s1")
    assert pairs[:2] == [("user", "p4"), ("assistant", "a4")]
    assert pairs[-4:] == [
        ("user", "p12"),
        ("assistant", "a12"),
        ("user", "p14"),
        ("assistant", "a14"),
    ]
    assert kept.context("other") == []


async def test_oldest_sessions_and_turns_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_SESSIONS", 3)
    monkeypatch.setattr(history, "MAX_TURNS", 5)
    kept = History(tmp_path)
    for n in range(5):
        for m in range(7):
            kept.add(f"s{n}", f"m{m}", f"question {m}", "answer")
        await kept.save(f"s{n}")
        os.utime(tmp_path / f"s{n}.json", (n, n))
    assert [session["id"] for session in kept.sessions()] == ["s4", "s3", "s2"]
    assert [turn["id"] for turn in kept.turns("s4")] == ["m2", "m3", "m4", "m5", "m6"]
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["s2", "s3", "s4"]
    assert History(tmp_path).sessions() == kept.sessions()


async def test_concurrent_saves_leave_the_last_state(tmp_path: Path) -> None:
    kept = History(tmp_path)
    saves = []
    for n in range(20):
        kept.add("s1", f"m{n}", "question " * 1000, "answer")
        saves.append(asyncio.create_task(kept.save("s1")))
        await asyncio.sleep(0)
    await asyncio.gather(*saves)
    assert len(json.loads((tmp_path / "s1.json").read_text())) == 20


async def test_corrupt_history_does_not_affect_other_sessions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, text in {"torn": '[{"id', "odd": "[1]", "other": "{}", "empty": "[]"}.items():
        (tmp_path / f"{name}.json").write_text(text)
    good = [{"id": "m1", "prompt": "p", "answer": "a", "at": "2026-05-17T12:00:00Z"}]
    (tmp_path / "good.json").write_text(json.dumps(good))
    kept = History(tmp_path)
    assert [session["id"] for session in kept.sessions()] == ["good"]
    assert "torn.json can't be read" in caplog.text
    (tmp_path / "file").write_text("")
    nowhere = History(tmp_path / "file")
    nowhere.add("s1", "m1", "p", "a")
    await nowhere.save("s1")
    assert "could not be stored" in caplog.text
    assert len(nowhere.turns("s1")) == 1
