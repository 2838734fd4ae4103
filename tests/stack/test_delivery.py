"""All data of an instrumented app arrives once and with the right values.

With real engines and servers, restarts and kills. The third-party app is Datasette, unchanged.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.stack import Stack, until
from tests.ports import free_port
from tests.run.serving import APP, SCRIPTS, TELEMETRY, Served, environment, served
from tests.stack.shop import ITEMS, UVICORN, shop, wait_count, wait_sequence

pytestmark = pytest.mark.stack


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


def _answered(page: str) -> float:
    """Return the number of requests in a page of metrics."""
    name = "http_server_request_duration_seconds_count"
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


def test_every_metric_and_line_of_datasette_arrives_with_its_value(
    stack: Stack, tmp_path: Path
) -> None:
    sent: Counter[str] = Counter()
    with datasette(stack, tmp_path) as server:
        # Few requests for the missing page: Datasette prints a long traceback for each.
        for path in ("/", "/shop/items", "/shop/items/7", "/shop?sql=select+1", "/no/page") * 3:
            for _ in range(1 if path == "/no/page" else 6):
                sent[path] += bool(server.try_get(path))
        # A request is counted after its answer. The readiness check was counted too.
        shown = until(lambda: _answered(page := server.get("/metrics")) > sent.total() and page)
        server.end()
    # All HTTP series of /metrics; those of the process have changed since.
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

    # The text format writes a bound as 1.0, Prometheus writes one from OTLP as 1.
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


def test_last_request_and_line_arrive_through_down_and_up(new_stack: Stack, tmp_path: Path) -> None:
    stack = new_stack
    stack.run("up", "--no-services")
    with shop(stack, tmp_path, "to-the-last") as server:
        for i in range(57):
            server.get(f"/items/{i}")
        server.end()
        stack.run("down")  # without waiting for delivery
    stack.run("up", "--no-services")
    wait_count(stack, "to-the-last", 57)
    wait_sequence(stack, "to-the-last", 57)


def test_increase_includes_first_value(stack: Stack, tmp_path: Path) -> None:
    """`increase()` misses the first value of a series that does not begin at 0."""
    with shop(stack, tmp_path, "first-values") as server:
        server.get("/items/1")
        job = f'job="first-values",http_route="{ITEMS}"'
        series = f"http_server_request_duration_seconds_count{{{job}}}"
        stack.wait_query(f"increase({series}[1h])", lambda r: r and float(r[0]["value"][1]) > 0.9)


def test_requests_and_lines_arrive_over_grpc(stack: Stack, tmp_path: Path) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.url("otlp_grpc"),
    }
    with shop(stack, tmp_path, "grpc", **env) as server:
        for i in range(20):
            server.get(f"/items/{i}")
        server.end()
        assert "telemetry" not in server.output(), "no warning is printed"
    wait_count(stack, "grpc", 20)
    wait_sequence(stack, "grpc", 20)


def test_killed_run_is_down_and_ended_run_is_no_target(stack: Stack, tmp_path: Path) -> None:
    up = 'up{job="seen"}'
    targets = stack.home / "targets"
    with shop(stack, tmp_path, "seen", TMPDIR=str(tmp_path)) as server:
        stack.wait_query(f"{up} == 1")
        pid = int(server.get("/items/0"))
        server.process.kill()  # so that it can't delete the target of its child
        os.kill(pid, signal.SIGKILL)
        stack.wait_query(f"{up} == 0")
    (left,) = targets.glob("run-*.json")
    port = left.stem.rpartition("-")[2]
    command = [*TELEMETRY, "run", "shop:app", "--port", port]
    env = environment(**stack.env(OTEL_SERVICE_NAME="seen"))
    with served(command, tmp_path, env, int(port)) as server:
        stack.wait_query(f"{up} == 1")
        server.end()
    assert not left.exists(), "the next run has deleted it"
    stack.wait_query(up, lambda result: not result)


# --- workers -------------------------------------------------------------------------------------

WORKERS = {
    "uvicorn": "run shop:app --port {port} --workers 4",
    "gunicorn": "run -- gunicorn --graceful-timeout 10 -b 127.0.0.1:{port} -w 4 --preload "
    "-k uvicorn_worker.UvicornWorker shop:app",
}


@pytest.mark.parametrize("name", WORKERS)
def test_last_values_of_killed_worker_are_exported_by_survivor(
    stack: Stack, tmp_path: Path, name: str
) -> None:
    job = f"survivor-{name}"
    # The workers export rarely, so that the killed one has unexported values.
    with shop(stack, tmp_path, job, WORKERS[name]) as server:
        victim = [server.get(f"/items/{i}") for i in range(90)][-1]
        server.wait_counted(90)
        os.kill(int(victim), signal.SIGKILL)
        for _ in range(20):
            assert server.counted() == 90, "no counter falls, whichever worker answers"
        wait_count(stack, job, 90)
        again = sum(bool(server.try_get("/items/90")) for _ in range(20))
        server.wait_counted(90 + again)
        # Each process has a service.instance.id: three survivors and the new worker, which may
        # have answered no request.
        stack.wait_query(f'count(last_over_time(process_uptime_seconds{{job="{job}"}}[1h])) >= 4')
        server.end()
    wait_count(stack, job, 90 + again)


def test_reload_neither_loses_nor_doubles_counts_and_lines(stack: Stack, tmp_path: Path) -> None:
    with shop(stack, tmp_path, "reload", UVICORN + " --reload") as server:
        first = server.get("/items/0")
        server.change(tmp_path / "shop.py", APP + "# changed\n")
        until(lambda: server.try_get("/nothing") and "Finished server process" in server.output())
        assert until(lambda: server.try_get("/items/1")) != first
        server.wait_counted(2)
        server.end()
    wait_count(stack, "reload", 2)
    wait_sequence(stack, "reload", 2)
