"""Operations that Docker refuses: the container stays watched, its desired state unchanged."""

from __future__ import annotations

from pathlib import Path

import docker.errors
import httpx
import pytest

from telemetry import testing
from tests.fixtures.docker import DockerEngine
from tests.fixtures.stack import until
from tests.platform.conftest import Running, Start

pytestmark = pytest.mark.docker


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def test_failed_restart_leaves_the_container_down_and_wanted(
    run_platform: Start,
    empty_docker: DockerEngine,
    recorded: testing.Recorded,
    tmp_path: Path,
) -> None:
    """No user stopped it, so it must show as down."""
    (tmp_path / "data").mkdir()
    up = "platform_container_up"
    with run_platform(
        DOCKER_HOST=empty_docker.base_url, TELEMETRY_PLATFORM_VOLUMES=str(tmp_path)
    ) as running:
        volume = {"source": str(tmp_path / "data"), "target": "/data"}
        running.make("ann", volumes=[volume])
        until(lambda: recorded.value(up, handle="ann") == 1)
        (tmp_path / "data").rmdir()
        assert error(running.ask("POST", "/api/containers/ann/restart"))[0] == 409
        until(lambda: recorded.value(up, handle="ann") == 0)
        # All events of the first container have been applied by now.
        running.make("bob")
        until(lambda: recorded.value(up, handle="bob") == 1)
        assert recorded.value(up, handle="ann") == 0
        assert running.get("ann")["wanted"] is True
        (tmp_path / "data").mkdir()
        assert running.ask("POST", "/api/containers/ann/restart").json()["up"] is True
        empty_docker.client.containers.get("telemetry-ann").stop()
        until(lambda: running.get("ann")["wanted"] is False)


def test_refused_stop_leaves_the_container_watched(
    platform: Running,
    docker_engine: DockerEngine,
    recorded: testing.Recorded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Later ends are still recognised: a crash as a crash, a stop as a stop."""

    def refuses(*args: object, **options: object) -> None:
        raise docker.errors.APIError("tried to kill container, but did not receive an exit event")

    for handle in ("ann", "bob", "eve"):
        platform.make(handle)
    assert platform.ask("POST", "/api/containers/eve/stop").status_code == 200
    monkeypatch.setattr("docker.models.containers.Container.stop", refuses)
    monkeypatch.setattr("docker.models.containers.Container.restart", refuses)
    assert error(platform.ask("POST", "/api/containers/ann/stop"))[0] == 409
    assert error(platform.ask("POST", "/api/containers/bob/restart"))[0] == 409
    assert error(platform.ask("POST", "/api/containers/eve/stop"))[0] == 409
    assert [platform.get(h)["wanted"] for h in ("ann", "bob", "eve")] == [True, True, False]
    docker_engine.client.containers.get("telemetry-ann").kill()
    docker_engine.command("stop", "telemetry-bob")
    until(lambda: recorded.value("platform_container_up", handle="ann") == 0)
    until(lambda: platform.get("bob")["wanted"] is False)
    until(lambda: recorded.value("platform_container_up", handle="bob") is None)
