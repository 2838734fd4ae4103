"""Gateway and proxy as processes: hosts and limits as the commands set them."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import Process

Start = Callable[..., Process]


def most_memory_mib(process: Process) -> float:
    """Return the most memory that the process has had."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


@pytest.mark.parametrize("service", ["gateway", "proxy"])
def test_process_answers_for_known_hosts_only(processes: Start, service: str) -> None:
    process = processes(service, TELEMETRY_HOSTS="monitor.example")
    for host, status in (
        (f"127.0.0.1:{process.port}", 200),
        ("localhost", 200),
        ("monitor.example:443", 200),
        ("evil.example", 421),
        (f"127.0.0.2:{process.port}", 421),
    ):
        for path in ("/health", "/metrics"):
            answer = httpx.get(process.gateway.url + path, headers={"host": host})
            assert answer.status_code == status, (host, path)


@pytest.mark.parametrize("service", ["gateway", "proxy"])
def test_process_keeps_its_memory_when_a_client_sends_headers_without_end(
    processes: Start, service: str
) -> None:
    process = processes(service)
    before = most_memory_mib(process)
    part, sent = b"x" * (1 << 16), 0
    with socket.create_connection(("127.0.0.1", process.port), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ")
        with suppress(ConnectionResetError, BrokenPipeError):
            while sent < 300 << 20:
                client.sendall(part)
                sent += len(part)
    assert sent < 300 << 20
    assert most_memory_mib(process) < before + 32
    assert process.healthy()
