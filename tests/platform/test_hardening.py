"""What a provisioned container may do, in a real engine; and its budget at the proxy."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.fixtures.docker import DockerEngine
from tests.platform.conftest import ADMIN, Running
from tests.platform.test_lifecycle import inside


def budget(platform: Running, user: str) -> Any:
    """Return a proxy user's daily budget."""
    url = f"{platform.proxy_url}/api/users/{user}/budget"
    return httpx.put(url, json={}, headers=ADMIN).json()["daily_budget_usd"]


def status(docker: DockerEngine, handle: str) -> dict[str, str]:
    """Return /proc/self/status of a program in a handle's container."""
    printed = inside(docker, handle, "cat /proc/self/status")
    return {n: v.strip() for n, _, v in (line.partition(":") for line in printed.splitlines())}


@pytest.mark.docker
def test_container_has_no_capability_and_safe_limits_by_default(
    platform: Running, docker_engine: DockerEngine
) -> None:
    made = platform.make("ann")
    found = status(docker_engine, "ann")
    assert {int(found[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}
    assert found["NoNewPrivs"] == "1"
    host = docker_engine.client.containers.get(made["id"]).attrs["HostConfig"]
    limits = [host[name] for name in ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")]
    assert limits == [512 << 20, 512 << 20, 1_000_000_000, 512]
    assert not host["ReadonlyRootfs"], "images that write to their own folders work"
    shown = platform.get("ann")["spec"]
    assert (shown["cpus"], shown["memory_limit_bytes"], shown["pids_limit"]) == (1, 512 << 20, 512)
    assert (shown["capabilities"], shown["user"], shown["read_only"]) == ([], "", False)
    assert budget(platform, "ann") == "10"


@pytest.mark.docker
def test_requested_restrictions_hold(platform: Running, docker_engine: DockerEngine) -> None:
    platform.make(
        "ann",
        user="1000:1000",
        read_only=True,
        pids_limit=20,
        capabilities=["NET_BIND_SERVICE"],
        daily_budget_usd=0.5,
    )
    found = status(docker_engine, "ann")
    assert found["Uid"].split() == ["1000"] * 4
    assert int(found["CapBnd"], 16) == 1 << 10, "CAP_NET_BIND_SERVICE alone"
    printed = inside(
        docker_engine, "ann", "touch /root/x 2>&1; echo fine > /tmp/x; cat /tmp/x; id -g"
    )
    assert printed.splitlines() == [
        "touch: /root/x: Read-only file system",
        "fine",
        "1000",
    ]
    forks = "i=0; while [ $i -lt 30 ]; do sleep 5 & i=$((i+1)); done; true"
    container = docker_engine.client.containers.get("telemetry-ann")
    assert b"can't fork" in container.exec_run(["sh", "-c", forks]).output
    assert budget(platform, "ann") == "0.5"


@pytest.mark.docker
def test_program_can_give_its_folders_away_with_the_capability_for_it(
    platform: Running, docker_engine: DockerEngine
) -> None:
    """As the entry points of databases and web servers do."""
    platform.make("ann", capabilities=["CHOWN", "SETGID", "SETUID"])
    script = "mkdir /tmp/data && chown 1000 /tmp/data && stat -c %u /tmp/data"
    assert inside(docker_engine, "ann", script) == "1000\n"
    platform.make("bob")
    refused = inside(docker_engine, "bob", "touch /tmp/x; chown 1000 /tmp/x 2>&1 || true")
    assert "Operation not permitted" in refused


@pytest.mark.docker
def test_volume_at_tmp_takes_the_place_of_the_one_in_memory(
    run_platform: Any, empty_docker: DockerEngine, tmp_path: Any
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o777)
    with run_platform(
        DOCKER_HOST=empty_docker.base_url, TELEMETRY_PLATFORM_VOLUMES=str(tmp_path)
    ) as platform:
        volume = {"source": str(folder), "target": "/tmp/"}
        platform.make("ann", read_only=True, volumes=[volume])
        inside(empty_docker, "ann", "echo kept > /tmp/x")
    assert (folder / "x").read_text() == "kept\n"


def test_existing_users_budget_is_kept(absent: Running) -> None:
    """An administrator may have set it, or removed it."""
    keys = absent.platform.keys
    assert not keys.has_user("ann")
    keys.create("ann")
    assert keys.has_user("ann")
    assert budget(absent, "ann") is None


@pytest.mark.docker
def test_provisioning_again_does_not_change_a_budget(platform: Running) -> None:
    platform.make("ann")
    url = f"{platform.proxy_url}/api/users/ann/budget"
    httpx.put(url, json={"daily_budget_usd": None}, headers=ADMIN).raise_for_status()
    platform.ask("DELETE", "/api/containers/ann")
    platform.make("ann")
    assert budget(platform, "ann") is None
