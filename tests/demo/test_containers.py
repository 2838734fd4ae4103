"""The demo's containers, where there is a Docker engine and where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetry.demo.containers import NO_DOCKER, Containers
from telemetry.settings.stack import StackSettings
from telemetry.system import docker_engine


def test_machine_without_docker_is_told_so_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "SOCKET", str(tmp_path / "docker.sock"))
    told = Containers(StackSettings.from_env({})).unavailable()
    assert told == NO_DOCKER
    assert "Errno" not in told


def test_engine_that_is_named_and_does_not_answer_is_named(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/docker.sock"
    told = Containers(StackSettings.from_env({"DOCKER_HOST": address})).unavailable()
    assert told.startswith(f"no containers: no Docker engine answers at {address}: ")
