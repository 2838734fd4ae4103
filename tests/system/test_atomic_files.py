"""Atomic file writes."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from telemetry.system.atomic_files import replace_file


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_text_and_bytes_are_written(tmp_path: Path) -> None:
    replace_file(tmp_path / "text", "Zürich\n")
    replace_file(tmp_path / "bytes", b"\xff\x00", durable=True)
    assert (tmp_path / "text").read_text("utf-8") == "Zürich\n"
    assert (tmp_path / "bytes").read_bytes() == b"\xff\x00"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes", "text"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_mode_does_not_depend_on_umask_or_the_old_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        replace_file(tmp_path / "secret", "x")
        replace_file(tmp_path / "shared", "x", 0o644)
        replace_file(tmp_path / "shared", "y", 0o600)
        replace_file(tmp_path / "rules", "x", 0o644)
    finally:
        os.umask(before)
    assert [_mode(tmp_path / name) for name in ("secret", "shared", "rules")] == [
        0o600,
        0o600,
        0o644,
    ]


def test_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    replace_file(path, "before")
    with pytest.raises(UnicodeEncodeError):
        replace_file(path, "\ud800")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "folder", "after")
    assert path.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "state.json"]


def test_reader_sees_one_whole_file_while_threads_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "state"
    texts = [letter * 100_000 for letter in "abcd"]
    replace_file(path, texts[0])
    writers = [
        threading.Thread(target=lambda text=text: [replace_file(path, text) for _ in range(20)])
        for text in texts
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in texts
    for writer in writers:
        writer.join()
    assert path.read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
