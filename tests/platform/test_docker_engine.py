"""The engine: its absence is detected quickly in every case."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from telemetry.system.docker_engine import PING_TIMEOUT_S, Engine
from tests.fixtures.docker import DockerEngine


@pytest.mark.timeout(30)
def test_engine_that_does_not_answer_is_soon_reported_absent(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"{tmp_path}/mute.sock")
        mute.listen()
        engine = Engine({"DOCKER_HOST": f"unix://{tmp_path}/mute.sock"})
        problem = engine.problem()
    assert problem.startswith(f"no Docker engine answers at {engine.address}: ")
    assert f"timeout={PING_TIMEOUT_S}" in problem


def test_absent_engine_is_reported_with_its_address(tmp_path: Path) -> None:
    engine = Engine({"DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"})
    assert f"{tmp_path}/nobody.sock: " in engine.problem()


def test_invalid_address_is_reported() -> None:
    assert (
        "no Docker engine answers at smoke://signal"
        in Engine({"DOCKER_HOST": "smoke://signal"}).problem()
    )


@pytest.mark.docker
def test_answering_engine_has_no_problem(docker_engine: DockerEngine) -> None:
    assert Engine({"DOCKER_HOST": docker_engine.base_url}).problem() == ""
