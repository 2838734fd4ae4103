"""The engine: whether it is there is known soon, whatever it does."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from telemetry.system.docker_engine import PING_TIMEOUT_S, Engine
from tests.fixtures.docker import DockerEngine


@pytest.mark.timeout(30)
def test_an_engine_that_accepts_and_does_not_answer_is_soon_said_to_be_none(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"{tmp_path}/mute.sock")
        mute.listen()
        engine = Engine({"DOCKER_HOST": f"unix://{tmp_path}/mute.sock"})
        problem = engine.problem()
    assert problem.startswith(f"no Docker engine answers at {engine.address}: ")
    assert f"timeout={PING_TIMEOUT_S}" in problem


def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    engine = Engine({"DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"})
    assert f"{tmp_path}/nobody.sock: " in engine.problem()


def test_an_address_that_is_none_is_a_problem_too() -> None:
    assert (
        "no Docker engine answers at smoke://signal"
        in Engine({"DOCKER_HOST": "smoke://signal"}).problem()
    )


@pytest.mark.docker
def test_one_that_answers_is_no_problem(docker_engine: DockerEngine) -> None:
    assert Engine({"DOCKER_HOST": docker_engine.base_url}).problem() == ""
