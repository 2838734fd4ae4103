"""Logs through Docker's API: which containers', in what form, every line once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

from telemetry.redaction import MASK, Redactor
from telemetry.services.platform import follower
from telemetry.services.platform.desired import ContainerEvent
from telemetry.services.platform.follower import (
    Follower,
    Line,
    by_api,
    entries,
    lines,
    record_of,
)
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.store import Store
from tests.fixtures.docker import DockerEngine
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.platform.conftest import Start

AT = "2026-01-02T03:04:05.000000001Z"


def line(text: str, container_id: str = "c1") -> Line:
    return Line("ann", container_id, AT, text)


def test_messages_without_a_terminal_are_put_together_by_their_line_feed() -> None:
    """A long line comes in pieces, each with a time of its own."""
    stream = [b"t1 one\n", b"t2 " + b"x" * 16384, b"t3 " + b"y\r\n", b"t4 \n", b"t5 50%\rdone\n"]
    assert list(lines(stream, tty=False)) == [
        ("t1", "one"),
        ("t2", "x" * 16384 + "y"),
        ("t4", ""),
        ("t5", "50%\rdone"),
    ]


def test_with_a_terminal_chunks_are_cut_anywhere() -> None:
    text = "t1 grüße\r\nt2 two\n".encode()
    stream = [bytes([byte]) for byte in text]
    assert list(lines(stream, tty=True)) == [("t1", "grüße"), ("t2", "two")]


def test_a_stack_trace_is_one_entry_even_among_others_lines() -> None:
    batch = [
        line("it failed"),
        line("fine", "c2"),
        line("Traceback (most recent call last):"),
        line('  File "x.py", line 1'),
        line("shop.NoMoney: none left"),
        line("ValueError: not a number"),
        line("next"),
    ]
    assert [(e.container_id, e.text) for e in entries(batch)] == [
        ("c1", 'it failed\nTraceback (most recent call last):\n  File "x.py", line 1'),
        ("c2", "fine"),
        ("c1", "shop.NoMoney: none left\nValueError: not a number"),
        ("c1", "next"),
    ]


def test_a_record_is_what_the_collector_would_make_of_the_line() -> None:
    record = record_of(line("2026 WARNING low disk"), Redactor())
    assert record.resource.attributes == {"service.name": "container", "handle": "ann"}
    log = record.log_record
    assert (log.body, log.severity_text) == ("2026 WARNING low disk", "warning")
    assert log.severity_number is not None
    assert log.severity_number.value == 13
    assert log.attributes == {"log.source": "container"}
    assert log.timestamp == 1767323045_000000000
    assert record_of(line("all quiet"), Redactor()).log_record.severity_text is None


def test_secrets_are_taken_out_as_an_apps_own_are(
    run_platform: Start, otlp: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of every installation and those of the settings; ordinary lines stay as they are."""
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
def test_who_is_followed(
    tmp_path: Path,
    driver: str,
    options: dict[str, str] | None,
    labels: dict[str, str],
    path: str,
    followed: bool,
) -> None:
    """Those whose lines the collector can't read with their handle, and who don't send them."""
    environ = {"TELEMETRY_HOME": str(tmp_path), "TELEMETRY_DOCKER_CONTAINERS": "/logs"}
    attrs: dict[str, Any] = {
        "Config": {"Labels": {"handle": "ann", **labels}},
        "HostConfig": {"LogConfig": {"Type": driver, "Config": options}},
        "LogPath": path,
    }
    assert by_api(attrs, Settings.from_env(environ)) is followed


class Printed:
    """A container that printed some lines and stopped, in a Docker engine that has it alone."""

    id = "c1"

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.attrs: dict[str, Any] = {
            "Config": {"Labels": {}, "Tty": False},
            "HostConfig": {"LogConfig": {"Type": "local", "Config": {}}},
            "LogPath": "",
        }
        self.containers = self

    @contextmanager
    def asked(self) -> Iterator[Printed]:
        yield self

    def get(self, container_id: str) -> Printed:
        assert container_id == self.id
        return self

    def logs(self, **_: Any) -> Iterator[bytes]:
        for number, text in enumerate(self.lines):
            yield f"2026-01-02T03:04:05.{number:09}Z {text}\n".encode()


def test_a_container_that_starts_again_before_its_lines_are_sent(
    tmp_path: Path, otlp: Receiver
) -> None:
    """They wait for the collector; they are not read a second time meanwhile."""
    settings = Settings.from_env({"TELEMETRY_HOME": str(tmp_path)})
    store = Store(tmp_path / "platform.db")
    store.started("ann", "c1")
    printed: Any = Printed()
    follower = Follower(settings, printed, store, OTLPLogExporter(f"{otlp.url}/v1/logs"))
    follower.start()
    otlp.answering.clear()
    for text in ("one", "two", "three"):
        printed.lines.append(text)
        follower.happened(ContainerEvent("ann", "c1", "start", 0))
        until(lambda: not follower._streams)
    otlp.answering.set()
    until(lambda: "three" in otlp.bodies())
    follower.stop()
    assert otlp.bodies() == ["one", "two", "three"]
    store.close()


@pytest.mark.docker
def test_every_line_once_over_restarts_of_everything(
    run_platform: Start, empty_docker: DockerEngine, otlp: Receiver
) -> None:
    """Of a collector that is away, of the platform, of the container; none of another's."""
    environ = {
        "DOCKER_HOST": empty_docker.base_url,
        "TELEMETRY_DOCKER_CONTAINERS": str(empty_docker.home / "data/containers"),
    }
    # Numbered through its runs: the file stays with the container.
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
        until(lambda: otlp.requests > asked)  # so none is half taken any more
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
