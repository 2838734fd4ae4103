"""Every ASGI server with an unchanged app: all requests are counted, whichever worker serves
`/metrics` and whichever was killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.ports import free_port
from tests.run.serving import APP, BARE, TELEMETRY, Served, environment, exported, served

COMMANDS = {
    "app": "run shop:app --port {port}",
    "app, workers": "run shop:app --port {port} --workers 3",
    "uvicorn": "run -- uvicorn shop:app --port {port}",
    "uvicorn, workers": "run -- uvicorn shop:app --port {port} --workers 3",
    "uvicorn, reload": "run -- uvicorn shop:app --port {port} --reload",
    # A worker still has its parent's signal handlers while it starts, and misses a signal to end.
    # gunicorn waits for it as long as this option says, granian endlessly without its option.
    "gunicorn": "run -- gunicorn --graceful-timeout 10 -b 127.0.0.1:{port} -w 3 "
    "-k uvicorn_worker.UvicornWorker shop:app",
    "gunicorn, preload": "run -- gunicorn --graceful-timeout 10 -b 127.0.0.1:{port} -w 3 --preload "
    "-k uvicorn_worker.UvicornWorker shop:app",
    "gunicorn, its own worker": "run -- gunicorn --graceful-timeout 10 -b 127.0.0.1:{port} -w 2 "
    "-k asgi shop:app",
    "hypercorn": "run -- hypercorn -b 127.0.0.1:{port} shop:app",
    "hypercorn, workers": "run -- hypercorn -b 127.0.0.1:{port} -w 3 shop:app",
    "granian": "run -- granian --interface asgi --port {port} --workers 2 "
    "--workers-kill-timeout 10 shop:app",
    "daphne": "run -- daphne -b 127.0.0.1 -p {port} shop:app",
}
# The line that a server prints for each started worker, and the number of workers.
STARTED = {
    "uvicorn, workers": ("Started server process [", 3),
    "gunicorn, preload": ("Started server process [", 3),
    "gunicorn, its own worker": ("ASGI server listening on", 2),
    "granian": ("Started worker-", 2),
}


def _command(name: str, port: int) -> list[str]:
    if "daphne" in name:
        pytest.importorskip("daphne")
    return [*TELEMETRY, *COMMANDS[name].format(port=port).split()]


def _env(otlp: Receiver, interval_ms: int = 500, **more: str) -> dict[str, str]:
    return environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_METRIC_EXPORT_INTERVAL=str(interval_ms), **more
    )


def _wait_started(server: Served, name: str, more: int = 0) -> None:
    """Wait until every worker handles signals, and ``more`` that replace killed ones."""
    if name in STARTED:
        line, workers = STARTED[name]
        wanted = workers + more
        until(lambda: server.output().count(line) == wanted, what=f"{wanted} times {line!r}")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_request_is_counted_and_exported_once(
    name: str, otlp: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    with served(_command(name, port), tmp_path, _env(otlp), port) as server:
        pids = {server.get(f"/items/{i}") for i in range(40)}
        server.wait_counted(40)
        assert server.counted() == 40, "any worker reports the total"
        _wait_started(server, name)
        code = server.end()
    assert code in (0, 128 + signal.SIGTERM), server.output()
    assert exported(otlp) == 40
    lines = [body for body in otlp.bodies() if body.startswith("sequence ")]
    assert sorted(lines) == sorted(f"sequence {i}" for i in range(40))
    assert {log.resource["service.name"] for log in otlp.logs} == {"shop"}
    assert all(pid.isdigit() for pid in pids)
    assert "Traceback" not in server.output()


SLOW_TO_CLOSE = """
import asyncio, contextlib, os

@contextlib.asynccontextmanager
async def lifespan(app):
    yield
    with contextlib.suppress(FileExistsError):
        os.close(os.open("first", os.O_CREAT | os.O_EXCL))
        log.info("closed")
        return
    await asyncio.sleep(0.5)
    log.info("closed")

app.router.lifespan_context = lifespan
"""


@pytest.mark.parametrize("name", [name for name in COMMANDS if "workers" in name])
def test_workers_that_close_after_the_first_export_their_logs(
    name: str, otlp: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP + SLOW_TO_CLOSE)
    port = free_port()
    with served(_command(name, port), tmp_path, _env(otlp), port) as server:
        until(lambda: len({server.get("/items/1") for _ in range(9)}) == 3)
        server.end()
    assert otlp.bodies().count("closed") == 3


TRIO = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                print("closed properly", flush=True)
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def test_hypercorn_with_trio_exports_all_requests(otlp: Receiver, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(TRIO)
    port = free_port()
    run = f"run -- hypercorn -b 127.0.0.1:{port} -k trio shop:app"
    env = _env(otlp, 60_000)
    with served([*TELEMETRY, *run.split()], tmp_path, env, port) as server:
        before = until(lambda: server.counted(""), what="the first answer is counted")
        for _ in range(5):
            server.get("/x")
        server.wait_counted(before + 5, "")
        assert server.end() == 0, server.output()
    assert "closed properly" in server.output()
    assert "error" not in server.output().lower()
    assert exported(otlp, "") >= before + 5


def test_hanging_worker_is_terminated(otlp: Receiver, tmp_path: Path) -> None:
    hanging = SLOW_TO_CLOSE.replace("asyncio.sleep(0.5)", "asyncio.Event().wait()")
    (tmp_path / "shop.py").write_text(APP + hanging)
    port = free_port()
    with served(_command("hypercorn, workers", port), tmp_path, _env(otlp), port) as server:
        until(lambda: len({server.get("/items/1") for _ in range(9)}) == 3)
        server.end()
    assert otlp.bodies().count("closed") == 1


def test_killed_worker_does_not_keep_others_from_closing(otlp: Receiver, tmp_path: Path) -> None:
    """If one worker is killed, hypercorn ends all of them."""
    (tmp_path / "shop.py").write_text(APP + SLOW_TO_CLOSE)
    port = free_port()
    with served(_command("hypercorn, workers", port), tmp_path, _env(otlp), port) as server:
        until(lambda: len({server.get("/items/1") for _ in range(9)}) == 3)
        os.kill(int(server.get("/items/2")), signal.SIGKILL)
        server.process.wait(30)
    assert otlp.bodies().count("closed") == 2


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn", "hypercorn", "granian"])
def test_app_without_lifespan_exports_all_requests(
    name: str, otlp: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(BARE)
    port = free_port()
    env = _env(otlp, 60_000)
    with served(_command(name, port), tmp_path, env, port) as server:
        before = until(lambda: server.counted(""), what="the first answer is counted")
        for _ in range(20):
            server.get("/x")
        server.wait_counted(before + 20, "")
        _wait_started(server, name)
        server.end()
    assert exported(otlp, "") >= before + 20


@pytest.mark.parametrize("name", ["uvicorn, workers", "gunicorn, preload", "granian"])
def test_killed_worker_loses_no_counts(name: str, otlp: Receiver, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    command = _command(name, port)
    if name == "granian":
        command.append("--respawn-failed-workers")
    with served(command, tmp_path, _env(otlp, 200), port) as server:
        pids = [server.get(f"/items/{i}") for i in range(60)]
        server.wait_counted(60)
        os.kill(int(pids[-1]), signal.SIGKILL)
        for _ in range(20):
            assert server.counted() == 60
        until(lambda: exported(otlp) == 60, what="a survivor exports them")
        _wait_started(server, name, more=1)
        server.get("/items/again")
        server.wait_counted(61)
        server.end()
    assert exported(otlp) == 61


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("uvicorn, workers", "Child process [{pid}] died"),
        ("gunicorn, preload", "Worker (pid:{pid}) was sent SIGKILL! Perhaps out of memory?"),
    ],
)
def test_log_of_manager_about_killed_worker_is_exported_once(
    name: str, line: str, otlp: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    with served(_command(name, port), tmp_path, _env(otlp), port) as server:
        pid = server.get("/items/1")
        os.kill(int(pid), signal.SIGKILL)
        wanted = line.format(pid=pid)
        until(lambda: wanted in otlp.bodies(), what=f"{wanted!r} in {otlp.bodies()}")
        until(lambda: server.try_get("/items/2"))
        server.end()
    assert otlp.bodies().count(wanted) == 1
    (record,) = (log for log in otlp.logs if log.body == wanted)
    assert record.resource["service.name"] == "shop"
    assert otlp.bodies().count("sequence 2") == 1, "the manager exports no lines of workers"


def test_reload_keeps_counts(otlp: Receiver, tmp_path: Path) -> None:
    shop = tmp_path / "shop.py"
    shop.write_text(APP)
    port = free_port()
    with served(_command("uvicorn, reload", port), tmp_path, _env(otlp), port) as server:
        first = server.get("/items/1")
        server.change(shop, "nothing = works / here\n")
        until(lambda: "NameError: name 'works' is not defined" in server.output())
        server.change(shop, APP)
        until(lambda: server.try_get("/nothing"))
        assert server.get("/items/2") != first
        server.wait_counted(2)
        assert server.end() == 0, "the fixed error is not reported"
    assert exported(otlp) == 2


def test_recycled_workers_lose_no_counts(otlp: Receiver, tmp_path: Path) -> None:
    """gunicorn replaces each worker after 5 requests."""
    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    command = [*_command("gunicorn", port)[:-1], "--max-requests", "5", "shop:app"]
    with served(command, tmp_path, _env(otlp), port) as server:
        answered = 0
        while answered < 100:
            answered += bool(server.try_get("/items/1"))
        server.wait_counted(100)
        server.end()
    assert exported(otlp) == 100


def test_already_instrumented_app_is_counted_once(otlp: Receiver, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        APP + "\nimport telemetry\napp = telemetry.instrument(app, service_name='own')\n"
    )
    port = free_port()
    with served(_command("uvicorn", port), tmp_path, _env(otlp), port) as server:
        server.get("/items/1")
        server.wait_counted(1)
        server.end()
    assert exported(otlp) == 1


def test_opentelemetry_instrument_counts_and_exports_all_requests(
    otlp: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    run = f"opentelemetry-instrument uvicorn shop:app --port {port} --workers 3"
    env = _env(otlp, OTEL_PYTHON_DISTRO="telemetry", TMPDIR=str(tmp_path))
    with served(run.split(), tmp_path, env, port) as server:
        pids = [server.get(f"/items/{i}") for i in range(40)]
        server.wait_counted(40)
        os.kill(int(pids[-1]), signal.SIGKILL)
        for _ in range(10):
            assert server.counted() == 40
        server.end()
    assert exported(otlp) == 40
    lines = [body for body in otlp.bodies() if body.startswith("sequence ")]
    assert len(lines) == len(set(lines))
    assert {log.resource["service.name"] for log in otlp.logs} == {"shop"}
    assert not list(tmp_path.glob("telemetry-run-*")), "nothing is left behind"


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "hypercorn"])
def test_access_log_is_exported_once_with_trace_of_caller(
    server: str, otlp: Receiver, tmp_path: Path
) -> None:
    import urllib.request

    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    command = _command(server, port)
    if server != "uvicorn":  # its access log is on by default
        command[-1:-1] = ["--access-logfile", "-"]
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with served(command, tmp_path, _env(otlp), port) as process:
        request = urllib.request.Request(
            f"{process.base}/items/7?token=hunter2",
            headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
        )
        urllib.request.urlopen(request, timeout=10).close()
        process.end()
    access = [log for log in otlp.logs if "/items/7" in log.body]
    assert len(access) == 1, otlp.bodies()
    assert "hunter2" not in access[0].body
    assert access[0].severity == "INFO"
    own = [log for log in otlp.logs if log.body == "sequence 7"]
    assert [log.trace_id for log in own] == [trace]
    if server != "hypercorn":  # it writes the access log after the app's task has ended
        assert access[0].trace_id == trace
