"""Logs through Docker's API: which containers are followed, every line once."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from telemetry.redaction import MASK
from telemetry.services.platform.logs import follower
from telemetry.services.platform.logs.follower import Exporter, Follower, by_api
from telemetry.services.platform.logs.lines import Line
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.desired import ContainerEvent
from telemetry.services.platform.state.observed import ContainerState
from telemetry.services.platform.state.store import Store
from telemetry.testing import Recorded
from tests.fixtures.docker import DockerEngine
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.platform.conftest import Start

AT = "2026-01-02T03:04:05.000000001Z"


def line(text: str) -> Line:
    return Line("ann", "c1", AT, text)


def test_secrets_are_redacted_as_in_an_apps_own_logs(
    run_platform: Start, otlp: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the built-in and the configured patterns; other lines are unchanged."""
    monkeypatch.setattr(follower, "GATHER_S", 3.0)  # the lines of the key, in one batch
    key = ["-----BEGIN PRIVATE KEY-----", "aB3/" * 16, "-----END PRIVATE KEY-----"]
    sent = ["Cookie: id=hunter22", "for CUST-123456", "Bring a cookie, please", *key, "done"]
    with run_platform(TELEMETRY_REDACT_PATTERNS="CUST-[0-9]{6}") as running:
        for text in sent:
            running.platform.follower._put(line(text))
        until(lambda: "done" in otlp.bodies())
    assert otlp.bodies() == [
        f"Cookie: {MASK}",
        f"for {MASK}",
        "Bring a cookie, please",
        MASK,
        "done",
    ]


@pytest.mark.parametrize(
    ("driver", "options", "labels", "path", "followed"),
    [
        ("json-file", {"labels": "handle"}, {}, "/logs/c1/c1-json.log", False),
        ("json-file", {"labels": "a,handle"}, {}, "/logs/c1/c1-json.log", False),
        ("json-file", {"labels": "a"}, {}, "/logs/c1/c1-json.log", True),
        ("json-file", None, {}, "/logs/c1/c1-json.log", True),
        ("json-file", {"labels": "handle"}, {}, "/elsewhere/c1-json.log", True),
        ("local", {"labels": "handle"}, {}, "", True),
        ("journald", {}, {}, "", True),
        ("journald", {}, {"telemetry.logs": "otlp"}, "", False),
    ],
)
def test_followed_containers(
    tmp_path: Path,
    driver: str,
    options: dict[str, str] | None,
    labels: dict[str, str],
    path: str,
    followed: bool,
) -> None:
    """Those whose lines the Collector can't read with their handle, and that don't send them."""
    environ = {"TELEMETRY_HOME": str(tmp_path), "TELEMETRY_DOCKER_CONTAINERS": "/logs"}
    attrs: dict[str, Any] = {
        "Config": {"Labels": {"handle": "ann", **labels}},
        "HostConfig": {"LogConfig": {"Type": driver, "Config": options}},
        "LogPath": path,
    }
    assert by_api(attrs, Settings.from_env(environ)) is followed


class Printed:
    """A container that printed some lines and stopped, the only one in its engine."""

    id = "c1"
    base_url, api_version = "http://docker", "1.47"

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.asked_for = 0
        self.attrs: dict[str, Any] = {
            "Config": {"Labels": {}, "Tty": False},
            "HostConfig": {"LogConfig": {"Type": "local", "Config": {}}},
            "LogPath": "",
            "State": {"Running": False, "StartedAt": "2026-01-02T03:04:04.000000001Z"},
        }
        self.containers = SimpleNamespace(get={self.id: self}.__getitem__)
        self.api = self

    @contextmanager
    def connect(self) -> Iterator[Printed]:
        yield self

    def get(self, url: str, **_: Any) -> Any:
        assert url == "http://docker/v1.47/containers/c1/logs"
        self.asked_for += 1
        messages = [
            f"2026-01-02T03:04:05.{number:09}Z {text}\n".encode()
            for number, text in enumerate(self.lines)
        ]
        framed = b"".join(struct.pack(">BxxxL", 1, len(said)) + said for said in messages)
        return SimpleNamespace(raw=io.BytesIO(framed), raise_for_status=lambda: None)


@pytest.fixture
def followed(tmp_path: Path, otlp: Receiver, recorded: Recorded) -> Iterator[tuple[Follower, Any]]:
    """A running follower, and a known container for it to follow."""
    settings = Settings.from_env({"TELEMETRY_HOME": str(tmp_path)})
    store = Store(tmp_path / "platform.db")
    store.started("ann", "c1")
    printed: Any = Printed()
    follower = Follower(settings, printed, store, Exporter(f"{otlp.url}/v1/logs"))
    follower.start()
    yield follower, printed
    follower.stop()
    store.close()


def test_lines_are_not_read_twice_if_a_container_restarts_before_they_are_sent(
    followed: tuple[Follower, Any], otlp: Receiver
) -> None:
    """The lines wait for the Collector and are not read again in the meantime."""
    follower, printed = followed
    otlp.answering.clear()
    for text in ("one", "two", "three"):
        printed.lines.append(text)
        follower.on_event(ContainerEvent("ann", "c1", "start", 0))
        until(lambda: not follower._streams)
    otlp.answering.set()
    until(lambda: "three" in otlp.bodies())
    follower.stop()
    assert otlp.bodies() == ["one", "two", "three"]


def test_last_lines_of_a_run_that_ended_unobserved_are_read_once(
    followed: tuple[Follower, Any], otlp: Receiver
) -> None:
    follower, printed = followed
    printed.lines = ["fatal: database is gone"]
    ended = ContainerState(
        "ann", "c1", state="exited", started_at=printed.attrs["State"]["StartedAt"]
    )
    stranger = ContainerState("eve", "c2", state="exited", started_at="2020-01-01T00:00:00Z")
    for _ in range(3):
        follower.follow_all([ended, stranger])
        until(lambda: not follower._streams)
    until(otlp.bodies)
    assert printed.asked_for == 1
    printed.lines.append("fatal: gone again")
    printed.attrs["State"]["StartedAt"] = "2026-01-02T03:04:05.000000000Z"
    again = ContainerState("ann", "c1", state="exited", started_at="2026-01-02T03:04:05.000000000Z")
    follower.follow_all([again])
    until(lambda: len(otlp.bodies()) > 1)
    assert otlp.bodies() == ["fatal: database is gone", "fatal: gone again"]


def test_lines_of_any_size_arrive(followed: tuple[Follower, Any], otlp: Receiver) -> None:
    """More bytes than the Collector accepts; by number they would be one batch."""
    follower, _ = followed
    for _ in range(450):
        follower._put(line("x" * 50_000))
    follower._put(line("hello"))
    until(lambda: "hello" in otlp.bodies())
    assert len(otlp.bodies()) == 451
    until(lambda: follower._store.get("ann").logs_until == AT)


def test_refused_entry_is_counted_and_does_not_block_others(
    followed: tuple[Follower, Any], otlp: Receiver, recorded: Recorded
) -> None:
    follower, _ = followed
    otlp.limit = 100_000
    texts = [f"line {number}" for number in range(20)]
    for text in texts[:10]:
        follower._put(line(text))
    follower._put(line("x" * 200_000))
    for text in texts[10:]:
        follower._put(line(text))
    until(lambda: len(otlp.bodies()) == 20)
    assert otlp.bodies() == texts
    until(lambda: follower._store.get("ann").logs_until == AT)
    assert recorded.value("telemetry_dropped_total", signal="logs", reason="refused") == 1


@pytest.mark.parametrize("status", [401, 404, 408, 429, 500, 503])
def test_temporarily_refused_entry_is_retried(
    followed: tuple[Follower, Any], otlp: Receiver, recorded: Recorded, status: int
) -> None:
    follower, _ = followed
    otlp.status = status
    follower._put(line("one"))
    until(lambda: otlp.requests > 1)
    otlp.status = 200
    until(otlp.bodies)
    assert otlp.bodies() == ["one"]
    assert not recorded.value("telemetry_dropped_total", signal="logs", reason="refused")


@pytest.mark.docker
def test_every_line_arrives_once_across_restarts(
    run_platform: Start, empty_docker: DockerEngine, otlp: Receiver
) -> None:
    """Restarts of Collector, platform and container; no line of another container."""
    environ = {
        "DOCKER_HOST": empty_docker.base_url,
        "TELEMETRY_DOCKER_CONTAINERS": str(empty_docker.home / "data/containers"),
    }
    # Numbered across its runs: the file stays in the container.
    script = (
        "trap exit TERM; n=$(cat /n || echo 0); "
        "while true; do n=$((n+1)); echo $n > /n; echo line $n; sleep 0.05; done"
    )
    adopted = empty_docker.run("bob", "sh", "-c", script)

    def numbers() -> list[int]:
        return [
            int(log.body.split()[1])
            for log in otlp.logs
            if log.resource.get("handle") == "bob" and log.body.startswith("line ")
        ]

    with run_platform(**environ) as running:
        running.make("ann", command=["sh", "-c", f"echo line 0 of the file; {script}"])
        until(lambda: len(numbers()) > 10)
        otlp.status, asked = 503, otlp.requests
        until(lambda: otlp.requests > asked)  # so no request is in progress
        seen = len(numbers())
        until(lambda: "line" in running.ask("GET", "/api/containers/ann/logs").text)
        assert len(numbers()) == seen
        otlp.status = 200
        until(lambda: len(numbers()) > seen + 10)
        adopted.restart(timeout=5)
    adopted.restart(timeout=5)
    with run_platform(**environ):
        seen = len(numbers())
        until(lambda: len(numbers()) > seen + 10)
        adopted.stop(timeout=5)
        printed = adopted.logs(stderr=False).decode().split("line ")[1:]
        until(lambda: len(numbers()) >= len(printed))
    assert numbers() == [int(number) for number in printed]
    handles = {log.resource.get("handle") for log in otlp.logs}
    assert handles == {"bob"}, "the collector reads the others' files itself"


@pytest.mark.docker
def test_streams_terminals_and_last_lines_arrive(
    run_platform: Start, empty_docker: DockerEngine, otlp: Receiver
) -> None:
    """As Docker sends them. Lines printed while no platform ran are sent by the next one."""
    environ = {
        "DOCKER_HOST": empty_docker.base_url,
        "TELEMETRY_DOCKER_CONTAINERS": str(empty_docker.home / "data/containers"),
    }
    script = (
        "trap 'echo fatal: gone; exit 1' TERM; "
        "for n in 1 2 3; do echo failed >&2; echo request $n; echo '    pay()' >&2; done; "
        "head -c 40000 /dev/zero | tr '\\0' x; echo; while true; do sleep 0.05; done"
    )
    two = empty_docker.run("bob", "sh", "-c", script)
    one = empty_docker.run("tess", "sh", "-c", "echo grüße; echo two; sleep 3600", tty=True)
    until(lambda: two.logs().endswith(b"x\n") and two.logs().count(b"\n") == 10)
    until(lambda: one.logs().endswith(b"two\r\n"))

    def of(handle: str) -> list[tuple[str, str]]:
        return [
            (log.attributes["log.iostream"], log.body)
            for log in otlp.logs
            if log.resource.get("handle") == handle
        ]

    requests = [("stdout", f"request {n}") for n in (1, 2, 3)]
    said = [*requests, ("stdout", "x" * 40000), *[("stderr", "failed\n    pay()")] * 3]
    with run_platform(**environ):
        until(lambda: len(of("bob")) >= len(said))
        until(lambda: len(of("tess")) >= 2)
    two.stop(timeout=5)
    with run_platform(**environ):
        until(lambda: ("stdout", "fatal: gone") in of("bob"))
    assert sorted(of("bob")) == sorted([*said, ("stdout", "fatal: gone")])
    assert of("tess") == [("stdout", "grüße"), ("stdout", "two")]
