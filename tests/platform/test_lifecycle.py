"""Containers provisioned, stopped, started and removed in a real engine."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry import testing
from telemetry.services.http import HTTPError
from tests.fixtures.docker import IMAGE, DockerEngine
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.platform.conftest import ADMIN, IDLE, Running, Start

pytestmark = pytest.mark.docker
PROVISIONED = "platform_provision_duration_seconds"
DESTROYED = "platform_destroy_duration_seconds"


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def inside(docker: DockerEngine, handle: str, script: str) -> str:
    """Return what a shell in a handle's container prints."""
    container = docker.client.containers.get(f"telemetry-{handle}")
    code, output = container.exec_run(["sh", "-c", script])
    assert code == 0, output
    return str(output.decode())


def test_ten_concurrent_containers_each_get_key_token_and_handle(
    platform: Running, docker_engine: DockerEngine, recorded: testing.Recorded
) -> None:
    """Each is as requested, with its own key, token and handle, on one network."""
    handles = [f"user-{n}" for n in range(10)]
    with ThreadPoolExecutor(10) as threads:
        answers = list(
            threads.map(
                lambda handle: platform.provision(
                    handle, memory_limit_bytes=32 << 20, cpus=0.5, env={"LEVEL": handle}
                ),
                handles,
            )
        )
    assert [answer.status_code for answer in answers] == [201] * 10, answers[0].text
    assert answers[0].headers["location"] == "/api/containers/user-0"
    assert recorded.value(PROVISIONED, outcome="ok") == 10
    listed = platform.ask("GET", "/api/containers").json()["containers"]
    assert [c["handle"] for c in listed] == handles
    assert all(c["up"] and c["provisioned"] and c["state"] == "running" for c in listed)

    networks, secrets = set(), set()
    for handle in handles:
        attrs = docker_engine.client.containers.get(f"telemetry-{handle}").attrs
        assert attrs["Config"]["Labels"] == {
            "handle": handle,
            "telemetry.platform": platform.platform.store.platform_id,
        }
        assert attrs["HostConfig"]["Memory"] == 32 << 20
        assert attrs["HostConfig"]["NanoCpus"] == 500_000_000
        assert attrs["HostConfig"]["PidsLimit"] == 512
        assert attrs["HostConfig"]["CapDrop"] == ["ALL"]
        assert not attrs["HostConfig"]["CapAdd"]
        assert attrs["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
        assert attrs["HostConfig"]["LogConfig"]["Config"]["labels"] == "handle,telemetry.logs"
        env = dict(pair.split("=", 1) for pair in attrs["Config"]["Env"])
        assert env["TELEMETRY_HANDLE"] == env["LEVEL"] == handle
        assert env["OTEL_RESOURCE_ATTRIBUTES"] == f"handle={handle}"
        assert env["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
        assert env["OPENAI_BASE_URL"] == f"{env['ANTHROPIC_BASE_URL']}/v1"
        assert len(platform.keys(handle)) == 1
        networks |= set(attrs["NetworkSettings"]["Networks"])
        secrets |= {env["TELEMETRY_PROXY_KEY"], env["OTEL_EXPORTER_OTLP_HEADERS"]}
    assert networks == {"telemetry"}
    assert len(secrets) == 20, "no two share a key or a token"


def test_container_reaches_the_collector_and_the_proxy(
    platform: Running, docker_engine: DockerEngine, otlp: Receiver
) -> None:
    """With its own token, and not without."""
    platform.make("ann")
    before = otlp.requests
    # Its standard input stays open until the answer: closing it looks like a disconnect.
    script = r"""
        address=${OTEL_EXPORTER_OTLP_ENDPOINT#http://}; address=${address%/otlp}
        token=$(echo "${OTEL_EXPORTER_OTLP_HEADERS#authorization=}" | sed 's/%20/ /')
        more="HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nauthorization:"
        ask() { printf "$1 $more $2\r\n$3\r\n"; }
        mkfifo /tmp/asked
        nc ${address%:*} ${address#*:} < /tmp/asked > /tmp/answered &
        exec 3> /tmp/asked
        ask "POST /otlp/v1/metrics" "$token" >&3
        ask "POST /otlp/v1/metrics" "Bearer ann~guessed" >&3
        ask "GET /proxy/v1/models" "Bearer $OPENAI_API_KEY" >&3
        ask "GET /proxy/v1/models" "Bearer tk-guessed" "connection: close\r\n" >&3
        wait $!
        cat /tmp/answered
    """
    printed = inside(docker_engine, "ann", script)
    statuses = re.findall(r"HTTP/1.\d (\d+)", printed)
    assert statuses == ["200", "401", "200", "401"], printed
    assert otlp.requests == before + 1


def test_stop_ends_the_series_and_kill_sets_it_to_0(
    platform: Running, docker_engine: DockerEngine, recorded: testing.Recorded
) -> None:
    up = "platform_container_up"
    for handle in ("ann", "bob", "eve"):
        platform.make(handle)
    until(lambda: recorded.value(up) == 3)
    assert platform.ask("POST", "/api/containers/ann/stop").json()["wanted"] is False
    docker_engine.client.containers.get("telemetry-bob").kill()
    docker_engine.client.containers.get("telemetry-eve").stop()
    until(lambda: recorded.value(up, handle="bob") == 0)
    until(lambda: platform.get("eve")["wanted"] is False)
    for handle in ("ann", "eve"):
        until(lambda handle=handle: recorded.value(up, handle=handle) is None)
    bob = platform.get("bob")
    assert (bob["state"], bob["wanted"], bob["up"], bob["exit_code"]) == (
        "exited",
        True,
        False,
        137,
    )
    for handle in ("ann", "bob", "eve"):
        assert platform.ask("POST", f"/api/containers/{handle}/start").json()["up"] is True
    until(lambda: recorded.value(up) == 3)


def test_restart_keeps_the_container(platform: Running, recorded: testing.Recorded) -> None:
    before = platform.make("ann")
    answer = platform.ask("POST", "/api/containers/ann/restart")
    assert answer.status_code == 200, answer.text
    after = answer.json()
    assert after["id"] == before["id"]
    assert after["started_at"] > before["started_at"]
    assert after["up"] is True
    until(lambda: recorded.value("platform_container_up", handle="ann") == 1)


def test_remove_leaves_nothing(
    platform: Running, docker_engine: DockerEngine, recorded: testing.Recorded
) -> None:
    """No container, key or series; the handle is free again."""
    platform.make("ann")
    until(lambda: recorded.value("platform_container_up", handle="ann") == 1)
    assert platform.ask("DELETE", "/api/containers/ann").json()["removed"] is True
    assert docker_engine.client.containers.list(all=True) == []
    assert platform.keys("ann") == []
    until(lambda: recorded.value("platform_container_up", handle="ann") is None)
    assert recorded.value(DESTROYED, outcome="ok") == 1
    assert platform.ask("DELETE", "/api/containers/ann").status_code == 404
    assert recorded.value(DESTROYED, outcome="error") is None, "there was nothing to remove"
    assert platform.provision("ann").status_code == 201


def test_failed_provisioning_is_rolled_back(
    platform: Running, docker_engine: DockerEngine, recorded: testing.Recorded
) -> None:
    """Missing image, missing program, taken name: an error, and nothing is left."""
    docker_engine.run("stranger", name="telemetry-bob")
    for handle, fields, status, message in (
        ("ann", {"image": "nothing-of-the-kind:1"}, 422, "image nothing-of-the-kind:1 is not on"),
        ("ann", {"command": ["nothing-of-the-kind"]}, 422, "executable file not found"),
        ("ann", {"image": "Not An Image"}, 422, "invalid reference format"),
        ("bob", {}, 409, "a container named telemetry-bob exists"),
    ):
        response = platform.provision(handle, **fields)
        assert error(response)[0] == status
        assert message in error(response)[1]
        assert response.json()["error"]["remedy"]
        assert platform.platform.store.get(handle) is None
        assert platform.keys(handle) == []
    names = [c.name for c in docker_engine.client.containers.list(all=True)]
    assert names == ["telemetry-bob"]
    assert recorded.value(PROVISIONED, outcome="error") == 4


def test_provisioning_needs_the_proxy_unless_keys_are_off(
    run_platform: Start, empty_docker: DockerEngine
) -> None:
    nobody = {"DOCKER_HOST": empty_docker.base_url, "TELEMETRY_PROXY_URL": "http://127.0.0.1:9"}
    with run_platform(**nobody) as running:
        response = running.provision("ann")
        assert error(response)[0] == 503
        assert "TELEMETRY_PLATFORM_KEYS=false" in response.json()["error"]["remedy"]
        assert empty_docker.client.containers.list(all=True) == []
        assert running.platform.store.get("ann") is None, "the handle is free at once"
    with run_platform(**nobody, TELEMETRY_PLATFORM_KEYS="false") as running:
        assert running.provision("ann").status_code == 201
        assert "PROXY" not in inside(empty_docker, "ann", "env")


def test_handle_of_an_adopted_container_is_taken(
    platform: Running, docker_engine: DockerEngine, recorded: testing.Recorded
) -> None:
    docker_engine.run("bob")
    until(lambda: platform.platform.observed.get("bob"))
    platform.make("ann")
    for handle in ("ann", "bob"):
        assert error(platform.provision(handle)) == (
            409,
            f"handle {handle} has a container already",
        )
    assert recorded.value(PROVISIONED, outcome="error") is None, "nothing was tried"


def test_concurrent_requests_for_one_handle_create_one_container(platform: Running) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(platform.provision, ["ann"] * 4))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert len(platform.keys("ann")) == 1


def test_volumes_and_health_checks_reach_docker(
    run_platform: Start, empty_docker: DockerEngine, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "note").write_text("hello")
    with run_platform(
        DOCKER_HOST=empty_docker.base_url, TELEMETRY_PLATFORM_VOLUMES=str(tmp_path)
    ) as running:
        response = running.provision(
            "ann",
            volumes=[{"source": str(tmp_path / "data"), "target": "/data", "read_only": True}],
            health_check={"command": ["test", "-e", "/well"], "interval_s": 0.2, "retries": 2},
            restart_policy="unless-stopped",
        )
        assert response.status_code == 201, response.text
        assert inside(empty_docker, "ann", "cat /data/note") == "hello"
        until(lambda: running.get("ann")["health"] == "unhealthy")
        inside(empty_docker, "ann", "touch /well")
        until(lambda: running.get("ann")["health"] == "healthy")


def test_logs_can_be_tailed_and_followed(platform: Running) -> None:
    script = "trap exit TERM; echo one >&2; while true; do echo line $((i+=1)); sleep 0.2; done"
    platform.make("ann", command=["sh", "-c", script])
    path = "/api/containers/ann/logs"
    until(lambda: "line 2" in platform.ask("GET", path).text)
    # Both streams; Docker decides the order of their lines.
    assert {"one", "line 1", "line 2"} <= set(platform.ask("GET", path).text.splitlines())
    assert len(platform.ask("GET", f"{path}?tail=1").text.splitlines()) == 1
    assert platform.ask("GET", f"{path}?tail=0").text == ""
    url = f"{platform.url}{path}?tail=1&follow=true"
    with httpx.stream("GET", url, headers=ADMIN, timeout=30) as stream:
        lines = stream.iter_lines()
        first, second, third = (int(next(lines).split()[1]) for _ in range(3))
    assert (second, third) == (first + 1, first + 2)


def test_interrupted_operations_are_recovered_after_a_crash(
    run_platform: Start, empty_docker: DockerEngine
) -> None:
    """Interrupted right after Docker created the container, right after the proxy created the
    key, and during a removal."""
    with run_platform(DOCKER_HOST=empty_docker.base_url) as running:
        store, platform_id = running.platform.store, running.platform.store.platform_id
        running.make("gone")
        until(lambda: store.engine_id)
        running.platform.lifecycle.recover = lambda: None  # it runs at an interval
        store.change("gone", phase="removing")
        store.begin("ann", {"image": IMAGE})
        running.platform.keys.create("ann")
        store.begin("bob", {"image": IMAGE})
        labels = {"handle": "bob", "telemetry.platform": platform_id}
        empty_docker.client.containers.create(IMAGE, IDLE, name="telemetry-bob", labels=labels)
        empty_docker.run("other", name="telemetry-ann")
    with run_platform(DOCKER_HOST=empty_docker.base_url) as again:
        until(lambda: [r.handle for r in again.platform.store.all()] == ["other"])
        until(lambda: again.keys("ann") == again.keys("gone") == [])
        names = [c.name for c in empty_docker.client.containers.list(all=True)]
        assert names == ["telemetry-ann"], "a foreign container is not removed"


def test_state_survives_a_restart_of_the_platform(
    run_platform: Start, empty_docker: DockerEngine, otlp: Receiver
) -> None:
    """Desired state, changes made while it was down, and the relay."""
    port: dict[str, Any] = {}
    with run_platform(DOCKER_HOST=empty_docker.base_url) as running:
        port["TELEMETRY_PLATFORM_RELAY_PORT"] = str(running.platform.settings.relay_port)
        for handle in ("runs", "stopped", "dies", "removed"):
            running.make(handle)
        running.ask("POST", "/api/containers/stopped/stop")
    empty_docker.client.containers.get("telemetry-dies").kill()
    empty_docker.client.containers.get("telemetry-removed").remove(force=True)
    empty_docker.run("new")
    with run_platform(DOCKER_HOST=empty_docker.base_url, **port) as again:
        known = {
            "new": (True, True, False),
            "runs": (True, True, True),
            "stopped": (False, None, True),
            "dies": (True, False, True),
        }

        def listed() -> dict[str, tuple[bool, bool | None, bool]]:
            return {
                c["handle"]: (c["wanted"], c["up"], c["provisioned"])
                for c in again.ask("GET", "/api/containers").json()["containers"]
            }

        until(lambda: listed() == known and not again.keys("removed"), what=f"{known}")
        env = inside(empty_docker, "runs", "env")
        address = re.search(r"OTLP_ENDPOINT=(.*)", env)
        token = re.search(r"Bearer%20(\S+)", env)
        assert address
        assert token
        until(lambda: again.platform.relay._listening)
        answer = httpx.post(
            f"{address[1]}/v1/metrics", headers={"authorization": f"Bearer {token[1]}"}
        )
        assert answer.status_code == 200


def test_records_of_another_engine_are_kept(
    run_platform: Start, empty_docker: DockerEngine
) -> None:
    """As after a mistake in DOCKER_HOST: keys stay valid, records are kept."""
    with run_platform(DOCKER_HOST=empty_docker.base_url) as running:
        running.make("ann")
        until(lambda: running.platform.store.engine_id)
        store = running.platform.store
        store.engine_id = "another"
        store.change("ann", container_id="nowhere")
        with pytest.raises(HTTPError, match="nothing is recovered or removed"):
            running.platform.lifecycle.recover()
        assert running.get("ann")["phase"] == "made"
        assert len(running.keys("ann")) == 1


def test_engine_that_goes_down_and_comes_back(
    run_platform: Start, empty_docker: DockerEngine, recorded: testing.Recorded
) -> None:
    """The platform stays up and reports the problem, and recovers by itself."""
    with run_platform(DOCKER_HOST=empty_docker.base_url) as running:
        running.make("ann")
        empty_docker.stop()
        try:
            health = httpx.get(f"{running.url}/health")
            assert health.status_code == 503
            assert "no Docker engine" in health.json()["docker"]
            assert error(running.provision("bob"))[0] == 503
            assert error(running.ask("POST", "/api/containers/ann/start"))[0] == 503
            assert running.get("ann")["handle"] == "ann"
        finally:
            empty_docker.start()
        assert httpx.get(f"{running.url}/health").json() == {"status": "ok"}
        assert running.provision("bob").status_code == 201
        # The daemon ended its containers; no user asked for that.
        until(lambda: recorded.value("platform_container_up", handle="ann") == 0)
        assert running.ask("POST", "/api/containers/ann/start").json()["up"] is True
        until(lambda: recorded.value("platform_container_up") == 2)


def test_secrets_are_not_logged(platform: Running, caplog: pytest.LogCaptureFixture) -> None:
    platform.make("ann", env={"PASSWORD": "open sesame"})
    platform.ask("DELETE", "/api/containers/ann")
    assert "open sesame" not in caplog.text
    assert "tk-" not in json.dumps(caplog.text)
