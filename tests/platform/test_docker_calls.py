"""The calls of Docker's API that the platform makes are those that the docs list, and those that
the filter of the compose files lets through."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
import yaml

from telemetry.services.platform.sampling import engine_stats
from telemetry.system import packaged_files
from tests.fixtures.docker import DockerEngine
from tests.fixtures.docker_calls import recorded_calls
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.platform.conftest import Running, Start

ID = "0123abc"
# What each placeholder of the docs may stand for.
PATTERNS = {"{id}": r"[\w.-]+", "{name}": r"[\w.:/@-]+"}
EXAMPLES = {"{id}": ID, "{name}": "registry.example:5000/some/image:tag"}
# Each is root on the machine, reads what is in containers, or is simply not needed.
FORBIDDEN = [
    ("POST", f"/containers/{ID}/exec"),
    ("POST", f"/exec/{ID}/start"),
    ("POST", f"/containers/{ID}/attach"),
    ("POST", f"/containers/{ID}/update"),
    ("POST", f"/containers/{ID}/kill"),
    ("POST", f"/containers/{ID}/rename"),
    ("POST", "/containers/prune"),
    ("GET", f"/containers/{ID}/archive"),
    ("PUT", f"/containers/{ID}/archive"),
    ("GET", f"/containers/{ID}/export"),
    ("GET", f"/images/{ID}/get"),
    ("GET", f"/images/../containers/{ID}/json"),
    ("GET", f"/containers/../{ID}/json"),
    ("POST", "/build"),
    ("POST", "/commit"),
    ("POST", "/images/load"),
    ("DELETE", f"/images/{ID}"),
    ("POST", f"/networks/{ID}/connect"),
    ("POST", "/volumes/create"),
    ("DELETE", f"/volumes/{ID}"),
    ("GET", "/secrets"),
    ("POST", "/swarm/init"),
    ("POST", "/services/create"),
    ("POST", "/plugins/pull"),
    ("POST", "/session"),
    ("GET", "/containers/json/x"),
    ("HEAD", "/info"),
]


def documented() -> list[tuple[str, str]]:
    """Return methods and paths of the table in docs/platform.md."""
    page = packaged_files.path("docs/platform.md").read_text()
    section = page[page.index("## Docker's API") :]
    return re.findall(r"^\| `([A-Z]+) (/[^`]+)` \|", section.split("\n## ")[0][20:], re.M)


def is_documented(call: tuple[str, str], row: tuple[str, str]) -> bool:
    pattern = re.escape(row[1])
    for placeholder, meaning in PATTERNS.items():
        pattern = pattern.replace(re.escape(placeholder), meaning)
    return call[0] == row[0] and re.fullmatch(pattern, call[1]) is not None


def filters() -> dict[str, str]:
    """Return the filter's regular expressions, which it anchors at both ends, by method."""
    compose = Path(__file__).parents[2] / "compose" / "compose.services.yaml"
    command = yaml.safe_load(compose.read_text())["services"]["docker-filter"]["command"]
    return dict(re.findall(r"^-allow([A-Z]+)=(.+)$", "\n".join(command), re.M))


def is_let_through(method: str, path: str) -> bool:
    return method in filters() and re.fullmatch(filters()[method], path, re.ASCII) is not None


@pytest.mark.parametrize("version", ["", "/v1.41", "/v1.99"])
def test_filter_lets_through_documented_calls_only(version: str) -> None:
    assert len(documented()) > 10
    for method, path in documented():
        for placeholder, example in EXAMPLES.items():
            path = path.replace(placeholder, example)
        assert is_let_through(method, version + path), (method, path)
    for method, path in FORBIDDEN:
        assert not is_let_through(method, version + path), (method, path)


@pytest.mark.docker
def test_platform_makes_documented_calls_only_and_needs_each(
    run_platform: Start, empty_docker: DockerEngine, otlp: Receiver
) -> None:
    """Over its whole life: provisioning, operations, logs, samples, recovery, removal."""
    # A short name: a socket's path has at most 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="dc") as folder,
        recorded_calls(empty_docker.base_url, Path(folder)) as recorder,
    ):
        with run_platform(DOCKER_HOST=recorder.base_url) as running:
            live(running, empty_docker, otlp)
        # The next one recovers what the first left.
        with run_platform(DOCKER_HOST=recorder.base_url) as running:
            until(lambda: running.get("ann")["up"])
            assert running.ask("DELETE", "/api/containers/ann").status_code == 200
        calls = sorted(recorder.calls)
    for call in calls:
        assert any(is_documented(call, row) for row in documented()), call
        assert is_let_through(*call), call
    for row in documented():
        assert any(is_documented(call, row) for call in calls), f"{row} is not needed"


def live(running: Running, docker: DockerEngine, otlp: Receiver) -> None:
    """Do everything that the platform does with Docker."""
    # Of several networks of one name, it removes the younger ones.
    options = {"com.docker.network.bridge.enable_icc": "false"}
    running.make("ann")
    docker.client.networks.create("telemetry", "bridge", options=options, check_duplicate=False)
    running.make("bob")
    for operation in ("stop", "start", "restart"):
        answer = running.ask("POST", f"/api/containers/bob/{operation}")
        assert answer.status_code == 200, answer.text
    assert running.ask("GET", "/api/containers/bob/logs").status_code == 200
    # The image can't be pulled here; asking for it is what counts.
    missing = running.provision("eve", image="registry.invalid/nothing:here")
    assert missing.status_code == 422
    # The logs of a container that something else created are followed.
    docker.run("carol", "sh", "-c", "echo hello; sleep 3600")
    until(lambda: "hello" in otlp.bodies())
    # As on a machine whose kernel's files are not readable.
    platform = running.platform
    readings = engine_stats.read_all(platform.engine, platform.observed.all())
    assert any(reading for _, reading in readings)
    assert running.ask("GET", "/health").status_code == 200
    assert running.ask("DELETE", "/api/containers/bob").status_code == 200
