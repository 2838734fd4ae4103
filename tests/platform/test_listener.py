"""Connections to the relay: limits of one address and in all, and idle ones."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from telemetry import testing
from telemetry.services import serve
from telemetry.services.platform.relay import listener
from telemetry.services.platform.relay.listener import Listener
from tests.fixtures.stack import until
from tests.platform.conftest import ADMIN, TOKEN
from tests.platform.limited import FILES
from tests.ports import free_port

HOSTILE, OTHER = "127.0.0.2", "127.0.0.3"
REFUSED = "platform_relay_connections_refused_total"


def connect(port: int, address: str, sent: bytes = b"") -> socket.socket:
    """Connect from an address as a container would, and send something."""
    found = socket.create_connection(("127.0.0.1", port), 10, source_address=(address, 0))
    try:
        found.sendall(sent)
    except OSError:
        pass  # closed at once
    return found


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True


def answer(port: int, address: str) -> bytes:
    """Return the first line that the relay answers to a request from an address."""
    with connect(port, address, b"POST /otlp/v1/logs HTTP/1.1\r\nhost: x\r\n\r\n") as connection:
        return connection.recv(1000).split(b"\r\n")[0]


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Ports of the API and the relay of a platform that may open 1,024 files."""
    api, relay = free_port(), free_port()
    (tmp_path / "home").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.platform.limited"],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TELEM"))},
            "TELEMETRY_HOME": str(tmp_path / "home"),
            "TELEMETRY_ADMIN_TOKEN": TOKEN,
            "TELEMETRY_PLATFORM_PORT": str(api),
            "TELEMETRY_PLATFORM_RELAY_PORT": str(relay),
            "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def listens() -> bool:
        assert process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", relay)) == 0

    try:
        until(listens)
        yield api, relay
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_1400_connections_of_one_container_leave_the_api_and_others_alone(
    ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle and half-open ones, in a process that may open 1,024 files."""
    api, relay = ports
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 2 * FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * FILES), hard))
    with ExitStack() as opened:
        connections = []
        for number in range(1400):
            half = b"POST /otlp/v1/logs HTTP/1.1\r\nhost: x\r\n" if number % 2 else b""
            connections.append(opened.enter_context(connect(relay, HOSTILE, half)))
            if number % 100 == 99:
                listed = httpx.get(f"http://127.0.0.1:{api}/api/containers", headers=ADMIN)
                assert listed.status_code == 200
                # Docker is absent; what matters is that it says so.
                assert httpx.get(f"http://127.0.0.1:{api}/health").status_code == 503
                assert answer(relay, OTHER) == b"HTTP/1.1 401 Unauthorized"
        until(lambda: sum(map(is_closed, connections)) == 1400 - 128)
        assert is_closed(connections[-1])
    until(lambda: answer(relay, HOSTILE) == b"HTTP/1.1 401 Unauthorized")


async def _hello(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="hello")


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    return (await reader.read(1000))[-5:]


async def test_connections_beyond_a_limit_are_closed_counted_and_logged(
    recorded: testing.Recorded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "max_connections", lambda: 3)
    port = free_port()
    limited = Listener(_hello, 2)
    await limited.open()
    await limited.listen("127.0.0.1", port)
    streams = []

    async def open_from(address: str) -> bytes:
        streams.append(await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))
        try:
            return await _ask(*streams[-1])
        except ConnectionError:
            return b""

    try:
        assert [await open_from(HOSTILE) for _ in range(4)] == [b"hello", b"hello", b"", b""]
        assert [await open_from(OTHER) for _ in range(2)] == [b"hello", b""]
        assert recorded.value("platform_relay_connections") == 3
        assert recorded.value(REFUSED, reason="address") == 2
        assert recorded.value(REFUSED, reason="all") == 1
        assert f"a connection of {HOSTILE} to the relay was closed" in caplog.text
        assert caplog.text.count(HOSTILE) == 1, "a container can't fill the log"
        # An open one still works, and a closed one makes room.
        assert await _ask(*streams[0]) == b"hello"
        streams[0][1].close()
        await asyncio.to_thread(until, lambda: limited.open_connections == 2)
        assert await open_from(HOSTILE) == b"hello"
    finally:
        for _, writer in streams:
            writer.close()
        await limited.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / H"])
async def test_idle_and_half_open_connections_are_closed(
    recorded: testing.Recorded, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """Before a request, within its headers, and within those of the next one."""
    monkeypatch.setattr(listener, "IDLE_S", 0.1)
    port = free_port()
    limited = Listener(_hello, None)
    await limited.open()
    await limited.listen("127.0.0.1", port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        read = await asyncio.wait_for(reader.read(), 20)
        assert read.endswith(b"hello") == sent.endswith(b"GET / H")
    finally:
        writer.close()
        await limited.close()


def test_file_limit_is_raised_as_far_as_it_may() -> None:
    """In a process of its own: a lowered hard limit stays."""
    code = (
        "import resource; from telemetry.services.serve import raise_file_limit;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 500)); raise_file_limit();"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(500, 500)\n"
    assert serve.MAX_FILES > listener.MAX_CONNECTIONS * listener.FILES_PER_CONNECTION
