"""Outages of engines: no accepted data is lost, and no request waits."""

from __future__ import annotations

import os
import signal
import socket
import threading
import urllib.request
from pathlib import Path

import pytest

from tests.fixtures.stack import Stack, until
from tests.ports import free_port
from tests.run.serving import APP, TELEMETRY, Served, environment, served
from tests.stack.shop import FLOOD, UVICORN, sequence, shop, wait_count, wait_sequence

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("store", ["prometheus", "loki"])
def test_store_that_hangs_and_is_killed_misses_no_data(
    new_stack: Stack, tmp_path: Path, store: str
) -> None:
    stack = new_stack
    stack.run("up", "--no-services")
    with shop(stack, tmp_path, "outage") as server:
        load = Load(server)
        load.wait_for(100)
        os.kill(stack.pid(store), signal.SIGSTOP)
        load.wait_for(200)
        os.kill(stack.pid(store), signal.SIGKILL)  # the supervisor restarts it
        load.wait_for(300)
        stack.supervisor("halt", store)
        load.wait_for(400)
        stack.supervisor("start", store)
        load.wait_for(500)
        sent = load.end()
        server.end()
    wait_count(stack, "outage", sent)
    wait_sequence(stack, "outage", sent)


def test_killed_collector_loses_no_accepted_data(new_stack: Stack, tmp_path: Path) -> None:
    stack = new_stack
    stack.run("up", "--no-services")
    loki = stack.pid("loki")
    os.kill(loki, signal.SIGSTOP)  # so that lines wait in the collector's queue on disk
    with shop(stack, tmp_path, "killed-collector") as server:
        for i in range(50):
            server.get(f"/items/{i}")
        server.end()  # all data is accepted
    os.kill(stack.pid("collector"), signal.SIGKILL)
    os.kill(loki, signal.SIGCONT)
    wait_sequence(stack, "killed-collector", 50)
    wait_count(stack, "killed-collector", 50)
    # An app that keeps running sends data again that was not accepted.
    with shop(stack, tmp_path, "continuing") as server:
        load = Load(server)
        load.wait_for(50)
        os.kill(stack.pid("collector"), signal.SIGKILL)
        load.wait_for(150)
        stack.pid("collector")  # waits until it runs again
        sent = load.end()
        until(lambda: max(sequence(stack, "continuing"), default=0) >= 100, 60)
        server.end()
    wait_count(stack, "continuing", sent)
    wait_sequence(stack, "continuing", sent)


class Load:
    """Numbered requests, one after the other, until `end` is called."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self._sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self._server.get(f"/items/{self._sent}")
            self._sent += 1

    def wait_for(self, sent: int) -> None:
        until(lambda: self._sent >= sent or not self._thread.is_alive())
        assert self._thread.is_alive(), "a request failed"

    def end(self) -> int:
        """Stop the requests and return their number."""
        self._stop.set()
        self._thread.join(30)
        return self._sent


# --- no collector --------------------------------------------------------------------------------


def test_absent_collector_does_not_affect_app(stack: Stack, tmp_path: Path) -> None:
    """Requests are answered, dropped data is counted, and the queue stays bounded.

    After 20,000 lines no more memory is in use than the queue may hold.
    """
    absent = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    env = {**environment(), **absent, "OTEL_METRIC_EXPORT_INTERVAL": "500"}
    (tmp_path / "shop.py").write_text(APP + FLOOD)
    port = free_port()
    command = [*TELEMETRY, *UVICORN.format(port=port).split()]
    with served(command, tmp_path, env, port) as server:
        for i in range(100):
            assert server.get(f"/items/{i}")
        server.get("/flood")
        before = _metric(server, "process_memory_usage_bytes")
        for _ in range(3):
            server.get("/flood")
        after = _metric(server, "process_memory_usage_bytes")
        assert after - before < 16e6, "bounded by the queue, not by what is logged"
        full = _metric(server, 'telemetry_dropped_total{reason="queue_full",signal="logs"}')
        assert full > 40_000, "most lines were dropped"
        for signal_ in ("metrics", "logs"):
            name = f'telemetry_dropped_total{{reason="export_failed",signal="{signal_}"}}'
            until(lambda name=name: _metric(server, name) > 0)
        server.wait_counted(100)
        server.wait_counted(4, "/flood")


def _metric(server: Served, name: str) -> float:
    plain = name if "{" in name else rf"{name}{{"
    found = [
        float(line.rpartition(" ")[2])
        for line in server.get("/metrics").splitlines()
        if line.startswith(plain)
    ]
    return sum(found)


@pytest.mark.parametrize("answer", ["none", "500"])
def test_hanging_or_failing_collector_delays_no_request(tmp_path: Path, answer: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        done = threading.Event()
        failing = threading.Thread(target=_failing, args=(silent, done))
        if answer == "500":
            failing.start()
        (tmp_path / "shop.py").write_text(APP)
        port = free_port()
        env = environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_METRIC_EXPORT_INTERVAL="100",
        )
        command = [*TELEMETRY, *UVICORN.format(port=port).split()]
        with served(command, tmp_path, env, port) as server:
            for i in range(100):
                request = urllib.request.Request(f"{server.base}/items/{i}")
                # Half of the exporter's timeout: a request that waited for it would fail.
                with urllib.request.urlopen(request, timeout=5) as response:
                    assert response.status == 200
            server.wait_counted(100)
        done.set()
        if answer == "500":
            failing.join()


def _failing(listening: socket.socket, done: threading.Event) -> None:
    listening.settimeout(0.1)
    while not done.is_set():
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(1)
            try:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n")
            except OSError:
                pass
