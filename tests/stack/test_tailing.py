"""Files that the collector reads: the interaction and activity log, and containers' output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.levels import LEVELS
from tests.fixtures.stack import Stack, until
from tests.ports import free_ports
from tests.secrets_corpus import LETTERS, PEM
from tests.stack.sending import lines, send_log

pytestmark = pytest.mark.stack

DOCKER = "TELEMETRY_DOCKER_CONTAINERS"


class Containers:
    """A folder as Docker's json-file driver writes it.

    Args:
        folder: takes the place of /var/lib/docker/containers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def write(self, name: str, *pieces: str | tuple[str, str], **attrs: str) -> None:
        """Append output of a container in one write.

        A piece is text on stdout or ``(stream, text)``; one without a line feed was split by
        Docker.
        """
        path = self.folder / name / f"{name}-json.log"
        path.parent.mkdir(exist_ok=True)
        with open(path, "a") as file:
            for piece in pieces:
                at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "123Z")
                stream, log = ("stdout", piece) if isinstance(piece, str) else piece
                row: dict[str, Any] = {"log": log, "stream": stream, "time": at}
                if attrs:
                    row["attrs"] = attrs
                file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def tailing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Containers]]:
    """A stack that reads the container logs in a folder of the test."""
    home = tmp_path_factory.mktemp("tailing")
    containers = Containers(home / "containers")
    stack = Stack(home / "home", free_ports())
    stack.run("up", "--no-services", **{DOCKER: str(containers.folder)})
    yield stack, containers
    stack.run("down")


def _dispatch(**fields: Any) -> str:
    row = {
        "timestamp": datetime.now(UTC).isoformat(),
        "source": "web",
        "sessionId": "s1",
        "prompt": "how is my container?",
        "toolsUsed": ["query_metrics"],
        "tokensIn": 10,
        "tokensOut": 20,
        "costUsd": 0.001,
        "durationMs": 12.5,
        "result": "fine",
        "handle": "alice",
        "model": "claude-sonnet-4-5",
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "status": "ok",
        **fields,
    }
    return json.dumps(row) + "\n"


def test_interaction_log_arrives_with_its_fields(tailing: tuple[Stack, Containers]) -> None:
    stack, _ = tailing
    with open(stack.home / "logs" / "2026-01-02.jsonl", "a") as file:
        file.write(_dispatch())
        file.write(_dispatch(status="error", prompt="my password=hunter22 please"))
    good, bad = lines(stack, '{service_name="gateway"} | log_source="interactions"', 2)
    assert json.loads(good["line"])["result"] == "fine"
    assert good["labels"]["handle"] == "alice"
    assert good["labels"]["level"] == "info"
    assert good["labels"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert good["labels"]["tokensIn"] == "10"
    assert bad["labels"]["level"] == "error"
    assert "hunter22" not in json.dumps(bad)
    # Each line has its own time, not the time of reading.
    at = datetime.fromisoformat(json.loads(good["line"])["timestamp"])
    assert abs(at.timestamp() * 1e9 - good["time_ns"]) < 1e6


def test_activity_log_arrives(tailing: tuple[Stack, Containers]) -> None:
    stack, _ = tailing
    with open(stack.home / "logs" / "activity.log", "a") as file:
        file.write("12:00:01 web alice ok: how is my container?\n")
    lines(stack, '{service_name="gateway"} | log_source="activity"', 1)


def test_container_lines_have_their_handle(tailing: tuple[Stack, Containers]) -> None:
    stack, containers = tailing
    containers.write("c1", "INFO starting\n", "ERROR it broke\n", handle="bob")
    first, second = lines(stack, '{service_name="container", handle="bob"}', 2)
    assert (first["line"], first["labels"]["level"]) == ("INFO starting", "info")
    assert (second["line"], second["labels"]["level"]) == ("ERROR it broke", "error")
    assert first["labels"]["log_iostream"] == "stdout"


def test_containers_without_handle_or_with_otlp_are_skipped(
    tailing: tuple[Stack, Containers],
) -> None:
    stack, containers = tailing
    containers.write("c2", "no handle\n")
    containers.write("c3", "sent already\n", handle="carol", **{"telemetry.logs": "otlp"})
    containers.write("c4", "the last one\n", handle="dave")
    lines(stack, '{service_name="container", handle="dave"}', 1)
    assert not stack.logs('{service_name="container"} |~ "no handle|sent already"')


TRACEBACK = """\
ERROR:app:request failed
Traceback (most recent call last):
  File "/app/main.py", line 3, in handler
    raise ValueError("no such item")
ValueError: no such item

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/main.py", line 5, in handler
    raise RuntimeError("gave up") from None
app.errors.RuntimeError: gave up
"""


def test_traceback_is_one_entry(tailing: tuple[Stack, Containers]) -> None:
    stack, containers = tailing
    containers.write("c5", "INFO before\n", handle="erin")
    containers.write("c5", *TRACEBACK.splitlines(keepends=True), handle="erin")
    containers.write("c5", "INFO after\n", handle="erin")
    before, trace, after = lines(stack, '{service_name="container", handle="erin"}', 3)
    assert (before["line"], after["line"]) == ("INFO before", "INFO after")
    assert trace["line"] == TRACEBACK.rstrip("\n")
    assert trace["labels"]["level"] == "error"


def test_line_split_by_docker_is_joined(tailing: tuple[Stack, Containers]) -> None:
    """Docker splits lines at 16 KiB; the pieces end without a line feed."""
    stack, containers = tailing
    pieces = ["a" * 16384, "b" * 16384, "c" * 100 + "\n"]
    containers.write("c6", *pieces, "short\n", handle="frank")
    long, short = lines(stack, '{service_name="container", handle="frank"}', 2)
    assert long["line"] == "".join(pieces).rstrip("\n")
    assert short["line"] == "short"


def test_streams_of_a_container_are_not_mixed(tailing: tuple[Stack, Containers]) -> None:
    """A line of one stream comes within a traceback or a long line of the other."""
    stack, containers = tailing
    trace = TRACEBACK.splitlines(keepends=True)
    begin, end = ([("stderr", line) for line in part] for part in (trace[:3], trace[3:]))
    containers.write("c12", *begin, "GET /health 200 OK\n", *end, handle="lena")
    containers.write("c12", "a" * 16384, ("stderr", "short\n"), "b" * 100 + "\n", handle="lena")
    found = lines(stack, '{service_name="container", handle="lena"}', 4)
    assert {(entry["line"], entry["labels"]["log_iostream"]) for entry in found} == {
        (TRACEBACK.rstrip("\n"), "stderr"),
        ("GET /health 200 OK", "stdout"),
        ("a" * 16384 + "b" * 100, "stdout"),
        ("short", "stderr"),
    }
    assert not [entry for entry in found if "log_of" in entry["labels"]]


def test_level_is_read_from_line(tailing: tuple[Stack, Containers]) -> None:
    stack, containers = tailing
    containers.write("c13", *(f"{text}\n" for text, _ in LEVELS), handle="mona")
    found = lines(stack, '{service_name="container", handle="mona"}', len(LEVELS))
    assert {entry["line"]: entry["labels"]["level"] for entry in found} == dict(LEVELS)


def test_lines_of_two_containers_are_not_mixed(tailing: tuple[Stack, Containers]) -> None:
    stack, containers = tailing
    for i in range(20):
        containers.write("c7", f"left {i}\n", handle="gina")
        containers.write("c8", f"right {i}\n", handle="hugo")
    for handle, word in (("gina", "left"), ("hugo", "right")):
        found = lines(stack, f'{{service_name="container", handle="{handle}"}}', 20)
        assert [entry["line"] for entry in found] == [f"{word} {i}" for i in range(20)]


def test_restart_of_collector_neither_loses_nor_doubles_lines(
    tailing: tuple[Stack, Containers],
) -> None:
    """The checkpoint is on disk, so no line is missing or there twice."""
    stack, containers = tailing
    for i in range(50):
        containers.write("c9", f"line {i}\n", handle="ivy")
    stack.supervisor("halt", "collector")
    for i in range(50, 100):
        containers.write("c9", f"line {i}\n", handle="ivy")
    stack.supervisor("start", "collector")
    health = f"http://127.0.0.1:{stack.ports['collector_health']}/"
    until(lambda: stack.answers(health))
    for i in range(100, 150):
        containers.write("c9", f"line {i}\n", handle="ivy")
    found = lines(stack, '{service_name="container", handle="ivy"}', 150)
    assert sorted(e["line"] for e in found) == sorted(f"line {i}" for i in range(150))


def test_rotated_file_loses_no_lines(tailing: tuple[Stack, Containers]) -> None:
    """Docker renames a full file and begins a new one.

    The full file may have been read before the rename or not.
    """
    stack, containers = tailing
    log = containers.folder / "c10" / "c10-json.log"
    older, oldest = log.with_suffix(".log.1"), log.with_suffix(".log.2")
    for turn in range(4):
        containers.write("c10", *(f"turn {turn} line {i}\n" for i in range(30)), handle="jane")
        if turn % 2 == 0:
            stack.wait_logs(f'{{service_name="container", handle="jane"}} |= "turn {turn} line 28"')
            containers.write("c10", f"turn {turn} last\n", handle="jane")
        if older.exists():
            stack.wait_logs(f'{{handle="jane"}} |= "turn {turn - 1} line 28"')
            older.rename(oldest)
        log.rename(older)
    found = lines(stack, '{service_name="container", handle="jane"}', 122)
    assert len({entry["line"] for entry in found}) == 122, "each once"


def test_private_key_printed_line_by_line_is_masked(
    tailing: tuple[Stack, Containers],
) -> None:
    stack, containers = tailing
    key = PEM.format("\n".join((LETTERS * 4)[:64] for _ in range(3)))
    containers.write("c11", "before\n", *key.splitlines(keepends=True), "\n", handle="kate")
    containers.write("c11", "after\n", handle="kate")
    stack.wait_logs('{service_name="container", handle="kate"} |= "after"')
    found = stack.logs('{service_name="container", handle="kate"}')
    assert LETTERS[:20] not in json.dumps(found)


def test_large_batch_does_not_block_later_lines(tailing: tuple[Stack, Containers]) -> None:
    """Loki's components use gRPC, which by default accepts 4 MB.

    A larger batch would be retried without end and block the queue.
    """
    stack, _ = tailing
    records = [{"body": {"stringValue": f"{n} " + "x" * 300_000}} for n in range(20)]
    name = {"key": "service.name", "value": {"stringValue": "much"}}
    logs = {"resource": {"attributes": [name]}, "scopeLogs": [{"logRecords": records}]}
    body = {"resourceLogs": [logs]}
    answer = httpx.post(f"{stack.otlp_http}/v1/logs", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    send_log(stack, "after", "hello")
    lines(stack, '{service_name="after"}', 1)
    lines(stack, '{service_name="much"} | line_format "big"', 20)
