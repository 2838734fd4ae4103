"""The demo's containers without a Docker engine, and with an unreachable one."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetry.demo.containers import NO_DOCKER, Containers
from telemetry.settings.stack import StackSettings
from telemetry.system import docker_engine


def test_missing_docker_is_reported_without_errno(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "SOCKET", str(tmp_path / "docker.sock"))
    reason = Containers(StackSettings.from_env({})).unavailable()
    assert reason == NO_DOCKER
    assert "Errno" not in reason


def test_unreachable_docker_engine_is_reported_with_its_address(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/docker.sock"
    reason = Containers(StackSettings.from_env({"DOCKER_HOST": address})).unavailable()
    assert reason.startswith(f"no containers: no Docker engine answers at {address}: ")
