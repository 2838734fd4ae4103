"""Measure requests per CPU second over real sockets, relative to the bare app in the same round.

Each variant has its own uvicorn. The CPU time of a busy server limits the requests that it can
serve. Requests are divided by that CPU time, not by wall-clock time, so other processes on the
machine don't matter. This process sends the load over keep-alive connections, without a client
library.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CONNECTIONS = 8
SECONDS = 0.7
REQUEST = b"GET /items/42 HTTP/1.1\r\nhost: x\r\nuser-agent: bench\r\naccept: */*\r\n\r\n"
_SERVE = (
    "import sys, uvicorn; from bench.asgi import build; "
    "uvicorn.run(build(sys.argv[1]), port=int(sys.argv[2]), log_level='error', access_log=False)"
)


def measure(variants: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Measure each round's requests per CPU second, divided by those of the first variant."""
    ports = {variant: _free_port() for variant in variants}
    env = os.environ | {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    servers = {
        variant: subprocess.Popen([sys.executable, "-c", _SERVE, variant, str(port)], env=env)
        for variant, port in ports.items()
    }
    ratios: dict[str, list[float]] = {variant: [] for variant in variants}
    try:
        for port in ports.values():
            _wait_for(port)
        for round_ in range(rounds + 1):
            # Alternate the order: the first variant of a round finds the machine in another state.
            order = variants if round_ % 2 else tuple(reversed(variants))
            rates = {v: asyncio.run(_rate(ports[v], servers[v].pid)) for v in order}
            if round_:  # the first round warms up
                for variant in variants:
                    ratios[variant].append(rates[variant] / rates[variants[0]])
    finally:
        for server in servers.values():
            server.kill()
            server.wait()
    return ratios


async def _rate(port: int, pid: int) -> float:
    before = _cpu_s(pid)
    end = time.perf_counter() + SECONDS
    counts = await asyncio.gather(*(_connection(port, end) for _ in range(CONNECTIONS)))
    return sum(counts) / (_cpu_s(pid) - before)


def _cpu_s(pid: int) -> float:
    """Read the CPU seconds of the process's first thread, which runs the event loop."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def _connection(port: int, end: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.perf_counter() < end:
        writer.write(REQUEST)
        await reader.readuntil(b"hello")
        count += 1
    writer.close()
    await writer.wait_closed()
    return count


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
