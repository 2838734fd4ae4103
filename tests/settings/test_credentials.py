"""The secrets of a state folder."""

from __future__ import annotations

import stat
from pathlib import Path

from telemetry.settings import credentials


def test_secrets_are_generated_once_and_private(tmp_path: Path) -> None:
    made = credentials.ensure(tmp_path / "home", {})
    assert set(made) == set(credentials.GENERATED)
    assert all(len(value) > 30 for value in made.values())
    assert credentials.ensure(tmp_path / "home", {}) == made
    assert stat.S_IMODE((tmp_path / "home" / credentials.FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_environment_overrides_the_file_and_is_not_stored(tmp_path: Path) -> None:
    given = {"TELEMETRY_ADMIN_TOKEN": "mine"}
    assert credentials.ensure(tmp_path, given)["TELEMETRY_ADMIN_TOKEN"] == "mine"
    assert "mine" not in (tmp_path / credentials.FILE).read_text()


def test_empty_secret_is_replaced(tmp_path: Path) -> None:
    """An empty token would allow access without a log-in."""
    (tmp_path / credentials.FILE).write_text("TELEMETRY_ADMIN_TOKEN=\n")
    assert credentials.ensure(tmp_path, {})["TELEMETRY_ADMIN_TOKEN"]


def test_blank_secret_in_the_environment_is_not_one(tmp_path: Path) -> None:
    assert credentials.ensure(tmp_path, {"TELEMETRY_GRAFANA_PASSWORD": " "})[
        "TELEMETRY_GRAFANA_PASSWORD"
    ].strip()


def test_remembered_secret_is_stored_and_can_be_replaced(tmp_path: Path) -> None:
    credentials.remember(tmp_path, "TELEMETRY_PROXY_KEY", "tk-1")
    credentials.remember(tmp_path, "TELEMETRY_PROXY_KEY", "tk-2")
    assert credentials.ensure(tmp_path, {})["TELEMETRY_PROXY_KEY"] == "tk-2"
