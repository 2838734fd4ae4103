"""What an instrumented app sends arrives: all of it, once, with right values, through whatever
happens. Real engines, real servers; the third-party app is Datasette, unchanged."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.stack import Stack, until
from tests.launch.serving import APP, SCRIPTS, TELEMETRY, Served, environment, free_port, served

pytestmark = pytest.mark.stack

UVICORN = "run shop:app --port {port}"
ITEMS = "/items/{id}"
# Logs far more than any queue holds, within one request.
FLOOD = """
async def flood(request):
    for i in range(20_000):
        log.info("flood %s %s", i, "x" * 200)
    return PlainTextResponse("done")

app.router.routes.append(Route("/flood", flood))
"""


def shop(
    stack: Stack, folder: Path, name: str, command: str = UVICORN, **more: str
) -> AbstractContextManager[Served]:
    """The shop under ``telemetry`` and ``command``, sending to the stack."""
    (folder / "shop.py").write_text(APP + FLOOD)
    port = free_port()
    env = environment(**stack.env(OTEL_SERVICE_NAME=name, PATH=environment()["PATH"], **more))
    return served([*TELEMETRY, *command.format(port=port).split()], folder, env, port)


def _count(job: str, route: str = ITEMS) -> str:
    return (
        "sum(last_over_time(http_server_request_duration_seconds_count"
        f'{{job="{job}",http_route="{route}"}}[1h]))'
    )


def wait_count(stack: Stack, job: str, wanted: int, timeout_s: float = 60) -> None:
    """Wait until Prometheus has counted as many requests, and see that it stays so."""

    def has(result: list[dict[str, Any]]) -> bool:
        return bool(result) and float(result[0]["value"][1]) >= wanted

    result = stack.wait_query(_count(job), has, timeout_s)
    assert float(result[0]["value"][1]) == wanted, "more than were sent"


def sequence(stack: Stack, name: str) -> list[int]:
    """The numbers that the shop has logged, as Loki has them."""
    lines = [entry["line"] for entry in stack.logs(f'{{service_name="{name}"}} |= "sequence"')]
    return [int(m[1]) for line in lines if (m := re.fullmatch(r"sequence (\d+)", line))]


def wait_sequence(stack: Stack, name: str, wanted: int, timeout_s: float = 60) -> None:
    """Wait until Loki has as many lines; none is missing, none there twice."""
    until(lambda: len(sequence(stack, name)) >= wanted, timeout_s, f"{wanted} lines of {name}")
    assert sorted(sequence(stack, name)) == list(range(wanted)), "missing or twice"


# --- a third party's app -------------------------------------------------------------------------


@contextmanager
def datasette(stack: Stack, folder: Path) -> Iterator[Served]:
    with sqlite3.connect(folder / "shop.db") as database:
        database.execute("create table items (id integer primary key, name text)")
        database.executemany("insert into items (name) values (?)", [(f"n{i}",) for i in range(50)])
    database.close()
    port = free_port()
    env = environment(**stack.env(OTEL_SERVICE_NAME="datasette", PATH=environment()["PATH"]))
    command = f"run -- {SCRIPTS / 'datasette'} serve shop.db --port {port}"
    with served([*TELEMETRY, *command.split()], folder, env, port, "/-/versions.json") as server:
        yield server


def test_datasette_unchanged_each_metric_and_line_with_its_value(
    stack: Stack, tmp_path: Path
) -> None:
    sent: Counter[str] = Counter()
    with datasette(stack, tmp_path) as server:
        # Few that it has not: it prints a page of traceback for each.
        for path in ("/", "/shop/items", "/shop/items/7", "/shop?sql=select+1", "/no/page") * 3:
            for _ in range(1 if path == "/no/page" else 6):
                sent[path] += bool(server.try_get(path))
        shown = server.get("/metrics")
        server.end()
    # All that /metrics showed, but for what describes the process, which went on.
    wanted = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(shown)
        if family.name.startswith("http_") and not family.name.endswith("active_requests")
        for sample in family.samples
    }
    assert len(wanted) > 50

    def arrived() -> dict[Any, float]:
        query = 'last_over_time({job="datasette",__name__=~"http_.+_(bucket|count|sum)"}[1h])'
        ours = ("job", "instance", "__name__")
        return {
            (
                result["metric"].get("__name__", ""),
                frozenset((k, v) for k, v in result["metric"].items() if k not in ours),
            ): float(result["value"][1])
            for result in stack.query(query)
        }

    # The text format writes the bound 1.0, Prometheus 1 where it came by OTLP.
    def plain(series: dict[Any, float]) -> dict[Any, float]:
        return {
            (name, frozenset((k, f"{float(v):g}" if k == "le" else v) for k, v in labels)): value
            for (name, labels), value in series.items()
        }

    until(lambda: plain(arrived()) == plain(wanted), what="every series with its value")
    access = stack.wait_logs(
        '{service_name="datasette"} |= "HTTP/1.1" != "/metrics" != "versions.json"',
        lambda found: len(found) >= sent.total(),
    )
    logged = Counter(re.findall(r'"GET (\S+) HTTP', "\n".join(entry["line"] for entry in access)))
    assert logged == sent
    assert {entry["labels"]["service_name"] for entry in access} == {"datasette"}


def test_to_the_last_request_and_line_through_down_and_up(new_stack: Stack, tmp_path: Path) -> None:
    stack = new_stack
    stack.run("up", "--no-services")
    with shop(stack, tmp_path, "to-the-last") as server:
        for i in range(57):
            server.get(f"/items/{i}")
        server.end()
        stack.run("down")  # at once
    stack.run("up", "--no-services")
    wait_count(stack, "to-the-last", 57)
    wait_sequence(stack, "to-the-last", 57)


def test_first_values_count_in_increase(stack: Stack, tmp_path: Path) -> None:
    """`increase()` misses the first value of a series unless it began at 0."""
    with shop(stack, tmp_path, "first-values") as server:
        server.get("/items/1")
        job = f'job="first-values",http_route="{ITEMS}"'
        series = f"http_server_request_duration_seconds_count{{{job}}}"
        stack.wait_query(f"increase({series}[1h])", lambda r: r and float(r[0]["value"][1]) > 0.9)


def test_over_grpc_as_well(stack: Stack, tmp_path: Path) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.url("otlp_grpc"),
    }
    with shop(stack, tmp_path, "grpc", **env) as server:
        for i in range(20):
            server.get(f"/items/{i}")
        server.end()
        assert "telemetry" not in server.output(), "nothing to complain of"
    wait_count(stack, "grpc", 20)
    wait_sequence(stack, "grpc", 20)


def test_a_run_that_is_killed_is_seen_as_down_and_one_that_ends_is_forgotten(
    stack: Stack, tmp_path: Path
) -> None:
    up = 'up{job="seen"}'
    targets = stack.home / "targets"
    with shop(stack, tmp_path, "seen", TMPDIR=str(tmp_path)) as server:
        stack.wait_query(f"{up} == 1")
        pid = int(server.get("/items/0"))
        server.process.kill()  # before it could clear away what its child leaves
        os.kill(pid, signal.SIGKILL)
        stack.wait_query(f"{up} == 0")
    (left,) = targets.glob("run-*.json")
    port = left.stem.rpartition("-")[2]
    command = [*TELEMETRY, "run", "shop:app", "--port", port]
    env = environment(**stack.env(OTEL_SERVICE_NAME="seen"))
    with served(command, tmp_path, env, int(port)) as server:
        stack.wait_query(f"{up} == 1")
        server.end()
    assert not left.exists(), "the one that took over has cleared it away"
    stack.wait_query(up, lambda result: not result)


# --- outages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["prometheus", "loki"])
def test_a_store_that_hangs_and_is_killed_under_load_misses_nothing(
    new_stack: Stack, tmp_path: Path, store: str
) -> None:
    stack = new_stack
    stack.run("up", "--no-services")
    with shop(stack, tmp_path, "outage") as server:
        load = Load(server)
        load.wait_for(100)
        os.kill(stack.pid(store), signal.SIGSTOP)
        load.wait_for(200)
        os.kill(stack.pid(store), signal.SIGKILL)  # the supervisor starts it again
        load.wait_for(300)
        stack.supervisor("halt", store)
        load.wait_for(400)
        stack.supervisor("start", store)
        load.wait_for(500)
        sent = load.end()
        server.end()
    wait_count(stack, "outage", sent)
    wait_sequence(stack, "outage", sent)


def test_a_collector_killed_under_load_loses_nothing_it_had_accepted(
    new_stack: Stack, tmp_path: Path
) -> None:
    stack = new_stack
    stack.run("up", "--no-services")
    loki = stack.pid("loki")
    os.kill(loki, signal.SIGSTOP)  # so that it must wait in the collector's queue on disk
    with shop(stack, tmp_path, "killed-collector") as server:
        for i in range(50):
            server.get(f"/items/{i}")
        server.end()  # everything accepted
    os.kill(stack.pid("collector"), signal.SIGKILL)
    os.kill(loki, signal.SIGCONT)
    wait_sequence(stack, "killed-collector", 50)
    wait_count(stack, "killed-collector", 50)
    # And an app that goes on meanwhile sends again what was not accepted.
    with shop(stack, tmp_path, "going-on") as server:
        load = Load(server)
        load.wait_for(50)
        os.kill(stack.pid("collector"), signal.SIGKILL)
        load.wait_for(150)
        until(lambda: stack.pid("collector"))
        sent = load.end()
        until(lambda: max(sequence(stack, "going-on"), default=0) >= 100, 60)
        server.end()
    wait_count(stack, "going-on", sent)
    wait_sequence(stack, "going-on", sent)


class Load:
    """Requests one after the other, each with the next number, until told to end."""

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
        """How many there were."""
        self._stop.set()
        self._thread.join(30)
        return self._sent


# --- workers -------------------------------------------------------------------------------------

WORKERS = {
    "uvicorn": "run shop:app --port {port} --workers 4",
    "gunicorn": "run -- gunicorn -b 127.0.0.1:{port} -w 4 --preload "
    "-k uvicorn_worker.UvicornWorker shop:app",
}


@pytest.mark.parametrize("name", WORKERS)
def test_a_killed_worker_s_last_values_are_exported_by_a_survivor(
    stack: Stack, tmp_path: Path, name: str
) -> None:
    job = f"survivor-{name}"
    # What a killed worker had not exported is what is to be seen: it exports rarely.
    with shop(stack, tmp_path, job, WORKERS[name]) as server:
        victim = [server.get(f"/items/{i}") for i in range(90)][-1]
        assert server.counted() == 90
        os.kill(int(victim), signal.SIGKILL)
        for _ in range(20):
            assert server.counted() == 90, "no counter falls, whoever answers"
        wait_count(stack, job, 90)
        again = sum(bool(server.try_get("/items/90")) for _ in range(20))
        assert server.counted() == 90 + again
        server.end()
    wait_count(stack, job, 90 + again)
    instances = stack.query(f'count(last_over_time(process_uptime_seconds{{job="{job}"}}[1h]))')
    assert float(instances[0]["value"][1]) >= 4, "one service.instance.id a process"


def test_a_reload_neither_loses_nor_doubles(stack: Stack, tmp_path: Path) -> None:
    with shop(stack, tmp_path, "reload", UVICORN + " --reload") as server:
        first = server.get("/items/0")
        (tmp_path / "shop.py").write_text(APP + "# changed\n")
        until(lambda: server.try_get("/nothing") and "Finished server process" in server.output())
        assert until(lambda: server.try_get("/items/1")) != first
        assert server.counted() == 2
        server.end()
    wait_count(stack, "reload", 2)
    wait_sequence(stack, "reload", 2)


# --- no collector --------------------------------------------------------------------------------


def test_an_absent_collector_changes_nothing_for_the_app(stack: Stack, tmp_path: Path) -> None:
    """Every request is answered, what is dropped is counted, and the queue stays bounded:
    twenty thousand lines of a flood leave no more memory in use than the queue may hold."""
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
        assert full > 80_000 - 3 * 2048 - 5 * 512
        for signal_ in ("metrics", "logs"):
            name = f'telemetry_dropped_total{{reason="export_failed",signal="{signal_}"}}'
            until(lambda name=name: _metric(server, name) > 0)
        assert server.counted() == 100
        assert server.counted("/flood") == 4


def _metric(server: Served, name: str) -> float:
    plain = name if "{" in name else rf"{name}{{"
    found = [
        float(line.rpartition(" ")[2])
        for line in server.get("/metrics").splitlines()
        if line.startswith(plain)
    ]
    return sum(found)


@pytest.mark.parametrize("answer", ["none", "500"])
def test_a_collector_that_hangs_or_fails_holds_up_no_request(tmp_path: Path, answer: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        done = threading.Event()
        if answer == "500":
            threading.Thread(target=_failing, args=(silent, done)).start()
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
                # A tenth of what the exporter waits: no request ever waits for it.
                with urllib.request.urlopen(request, timeout=1) as response:
                    assert response.status == 200
            assert server.counted() == 100
        done.set()


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
