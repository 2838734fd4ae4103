"""What an instrumented app sends arrives: all of it, once, through whatever happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures.stack import Stack, free_ports, until

pytestmark = pytest.mark.stack

APP = """
import logging, os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

log = logging.getLogger("shop")

async def item(request):
    log.info("sequence %s", request.path_params["id"])
    return PlainTextResponse(str(os.getpid()))

app = Starlette(routes=[Route("/items/{id}", item)])
"""


@contextmanager
def serving(stack: Stack, folder: Path, name: str, *options: str) -> Iterator[str]:
    """The app under `telemetry run`; gives its address, and ends it gracefully."""
    (folder / "shop.py").write_text(APP)
    port = free_ports(("app",))["app"]
    command = [sys.executable, "-m", "telemetry", "run", "shop:app", f"--port={port}", *options]
    env = stack.env(OTEL_SERVICE_NAME=name)
    process = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
    base = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(f"{base}/nothing"), what="the app answers")
        yield base
    finally:
        process.terminate()
        _, printed = process.communicate(timeout=30)
        assert "Traceback" not in printed, printed


def _answers(url: str) -> bool:
    try:
        return bool(_get(url))
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def _count(job: str) -> str:
    return (
        "sum(last_over_time(http_server_request_duration_seconds_count"
        f'{{job="{job}",http_route="/items/{{id}}"}}[1h]))'
    )


def _sequence(stack: Stack, name: str) -> list[int]:
    lines = [entry["line"] for entry in stack.logs(f'{{service_name="{name}"}} |= "sequence"')]
    return [int(m[1]) for line in lines if (m := re.fullmatch(r"sequence (\d+)", line))]


def test_every_request_and_line_arrives_once_to_the_last_one(stack: Stack, tmp_path: Path) -> None:
    with serving(stack, tmp_path, "to-the-last") as base:
        for i in range(57):
            _get(f"{base}/items/{i}")
    stack.wait_query(_count("to-the-last"), lambda r: r and float(r[0]["value"][1]) == 57)
    until(lambda: sorted(_sequence(stack, "to-the-last")) == list(range(57)))


def test_first_values_count_in_increase(stack: Stack, tmp_path: Path) -> None:
    """`increase()` misses the first value of a series unless it began at 0."""
    with serving(stack, tmp_path, "first-values") as base:
        _get(f"{base}/items/1")
        job = 'job="first-values",http_route="/items/{id}"'
        series = f"http_server_request_duration_seconds_count{{{job}}}"
        stack.wait_query(f"increase({series}[1h])", lambda r: r and float(r[0]["value"][1]) > 0.9)


@pytest.mark.parametrize("store", ["prometheus", "loki"])
def test_a_store_that_is_away_misses_nothing(new_stack: Stack, tmp_path: Path, store: str) -> None:
    stack = new_stack
    stack.run("up", "--no-services")
    with serving(stack, tmp_path, "outage") as base:
        for i in range(100):
            _get(f"{base}/items/{i}")
        # Stopped, not killed, and held down: the supervisor would start a dead one at once.
        os.kill(stack.pid(store), signal.SIGSTOP)
        try:
            for i in range(100, 200):
                _get(f"{base}/items/{i}")
                time.sleep(0.02)
        finally:
            os.kill(stack.pid(store), signal.SIGCONT)
        os.kill(stack.pid(store), signal.SIGKILL)
        for i in range(200, 300):
            _get(f"{base}/items/{i}")
    stack.wait_query(_count("outage"), lambda r: r and float(r[0]["value"][1]) == 300, 60)
    until(lambda: len(_sequence(stack, "outage")) >= 300, 60)
    assert sorted(_sequence(stack, "outage")) == list(range(300)), "missing or twice"


def test_what_a_killed_collector_had_accepted_arrives(new_stack: Stack, tmp_path: Path) -> None:
    stack = new_stack
    stack.run("up", "--no-services")
    loki, collector = stack.pid("loki"), stack.pid("collector")
    os.kill(loki, signal.SIGSTOP)  # so that it must wait in the collector's queue on disk
    with serving(stack, tmp_path, "killed-collector") as base:
        for i in range(50):
            _get(f"{base}/items/{i}")
    os.kill(collector, signal.SIGKILL)
    os.kill(loki, signal.SIGCONT)
    until(lambda: sorted(_sequence(stack, "killed-collector")) == list(range(50)), 60)
    stack.wait_query(_count("killed-collector"), lambda r: r and float(r[0]["value"][1]) == 50)


def test_a_killed_worker_s_last_values_are_exported_by_a_survivor(
    stack: Stack, tmp_path: Path
) -> None:
    with serving(stack, tmp_path, "survivor", "--workers=3") as base:
        answered: dict[str, int] = {}
        for i in range(90):
            pid = _get(f"{base}/items/{i}")
            answered[pid] = answered.get(pid, 0) + 1
        victim = next(iter(answered))
        before = _shown(base)
        os.kill(int(victim), signal.SIGKILL)
        assert _shown(base) >= before == 90, "no counter falls"
        stack.wait_query(_count("survivor"), lambda r: r and float(r[0]["value"][1]) == 90, 30)
    stack.wait_query(_count("survivor"), lambda r: r and float(r[0]["value"][1]) == 90, 30)


def _shown(base: str) -> int:
    found = re.search(
        r'http_server_request_duration_seconds_count\{[^}]*http_route="/items/\{id\}"[^}]*\} (\d+)',
        until(lambda: _try_get(f"{base}/metrics")),
    )
    return int(found[1]) if found else 0


def _try_get(url: str) -> str:
    # A connection that the kernel had given to the killed worker is reset; the next is not.
    try:
        return _get(url)
    except OSError:
        return ""


def test_an_absent_collector_changes_nothing_for_the_app(stack: Stack, tmp_path: Path) -> None:
    absent = f"http://127.0.0.1:{free_ports(('absent',))['absent']}"
    (tmp_path / "shop.py").write_text(APP)
    port = free_ports(("app",))["app"]
    command = [sys.executable, "-m", "telemetry", "run", "shop:app", f"--port={port}"]
    env = stack.env(OTEL_EXPORTER_OTLP_ENDPOINT=absent, OTEL_EXPORTER_OTLP_TIMEOUT="1")
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    base = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(f"{base}/items/0"))
        for i in range(200):
            assert _get(f"{base}/items/{i}")

        def dropped() -> bool:
            shown = _get(f"{base}/metrics")
            return all(
                re.search(rf'telemetry_dropped_total{{reason="export_failed",signal="{s}"}}', shown)
                for s in ("metrics", "logs")
            )

        until(dropped)
    finally:
        process.terminate()
        started = time.monotonic()
        process.communicate(timeout=60)
    assert time.monotonic() - started < 30, "an exiting app does not wait for a collector"


def test_latency_is_not_changed_by_a_hanging_collector(stack: Stack, tmp_path: Path) -> None:
    """A collector that takes connections and never answers holds up no request."""
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        hanging = Stack(stack.home, stack.ports)
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        original = hanging.env
        hanging.env = lambda **more: original(**{**env, **more})  # type: ignore[method-assign]
        done = threading.Event()
        with serving(hanging, tmp_path, "hanging") as base:
            for i in range(100):
                _get(f"{base}/items/{i}")
            done.set()
        assert done.is_set()
