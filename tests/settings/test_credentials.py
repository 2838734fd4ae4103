"""The secrets of a state folder."""

from __future__ import annotations

import stat
from pathlib import Path

from telemetry.settings import credentials


def test_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    made = credentials.ensure(tmp_path / "home", {})
    assert set(made) == set(credentials.GENERATED)
    assert all(len(value) > 30 for value in made.values())
    assert credentials.ensure(tmp_path / "home", {}) == made
    assert stat.S_IMODE((tmp_path / "home" / credentials.FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_what_the_environment_names_wins(tmp_path: Path) -> None:
    given = {"TELEMETRY_ADMIN_TOKEN": "mine"}
    assert credentials.ensure(tmp_path, given)["TELEMETRY_ADMIN_TOKEN"] == "mine"
    assert "mine" not in (tmp_path / credentials.FILE).read_text()


def test_an_empty_line_is_no_secret(tmp_path: Path) -> None:
    """An empty token would let everybody in."""
    (tmp_path / credentials.FILE).write_text("TELEMETRY_ADMIN_TOKEN=\n")
    assert credentials.ensure(tmp_path, {})["TELEMETRY_ADMIN_TOKEN"]


def test_one_more_is_remembered(tmp_path: Path) -> None:
    credentials.remember(tmp_path, "TELEMETRY_PROXY_KEY", "tk-1")
    credentials.remember(tmp_path, "TELEMETRY_PROXY_KEY", "tk-2")
    assert credentials.ensure(tmp_path, {})["TELEMETRY_PROXY_KEY"] == "tk-2"
