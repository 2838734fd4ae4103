"""docs/running.md has all settings and commands, and no others."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from telemetry import cli
from telemetry.settings import credentials
from telemetry.settings.stack import URL_SETTINGS, StackSettings
from telemetry.stack import processes as stack_processes
from telemetry.stack.state_folder import StateFolder
from telemetry.system import packaged_files

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "running.md").read_text()
NAME = re.compile(r"\b(?:TELEMETRY_[A-Z_]*[A-Z]|GRAFANA_(?:HOME|BIN))\b")
READERS = (
    *(ROOT / "telemetry" / "stack").rglob("*.py"),
    *(ROOT / "telemetry" / "demo").glob("*.py"),
    packaged_files.path("collector/config.yaml"),
    packaged_files.path("collector/traces.yaml"),
    packaged_files.path("compose/loki/loki.yaml"),
    packaged_files.path("compose/compose.yaml"),
    packaged_files.path("compose/compose.services.yaml"),
)
# Settings of services that the demo sets; they are documented with their service.
ELSEWHERE = {"TELEMETRY_MODEL"}
ADDRESSES = {one.variable for one in URL_SETTINGS.values()}


def _read() -> set[str]:
    found = {name for path in READERS for name in NAME.findall(path.read_text())}
    found |= {one.variable for one in StackSettings.settings()} - ADDRESSES
    return found | set(credentials.GENERATED)


def _given_to_engines() -> set[str]:
    """Return the variables that `up` sets for the engines' configuration files."""
    environ = {"TELEMETRY_GRAFANA_PASSWORD": "x", "TELEMETRY_WEBHOOK_TOKEN": "y"}
    programs = {n: Path(n) for n in ("prometheus", "loki", "collector", "grafana")}
    processes = stack_processes.engines(
        StateFolder(Path("/x")), StackSettings.from_env(environ), programs, "grafana"
    )
    return {name for process in processes for name in process.env}


def _commands() -> dict[str, argparse.ArgumentParser]:
    actions = cli.parser()._actions
    (subparsers,) = (a for a in actions if isinstance(a, argparse._SubParsersAction))
    return dict(subparsers.choices)


def test_every_documented_setting_exists() -> None:
    assert set(NAME.findall(TEXT)) - _read() - ADDRESSES == set()


def test_every_setting_is_documented() -> None:
    documented = set(NAME.findall(TEXT)) | ELSEWHERE
    assert _read() - documented - _given_to_engines() == set()


def test_every_documented_command_exists() -> None:
    named = set(re.findall(r"`telemetry ([a-z]+)", TEXT))
    assert named - set(_commands()) == set()


def test_every_command_is_documented() -> None:
    texts = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    missing = {name for name in _commands() if f"telemetry {name}" not in texts}
    assert missing == set()


def test_every_documented_option_exists() -> None:
    for command, cell in re.findall(
        r"^\| `telemetry ([a-z]+)[^|]*\| ([^|]*)\|", TEXT, re.MULTILINE
    ):
        known = _commands()[command].format_help()
        for option in re.findall(r"`(--[a-z-]+)", cell):
            assert option in known, f"telemetry {command} {option}"
