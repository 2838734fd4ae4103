"""An app with its own module named `telemetry`: it gets that module, and is instrumented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from telemetry.system import own_package
from tests.fixtures.otlp import Receiver
from tests.ports import free_port
from tests.run.serving import APP, SCRIPTS, environment, exported, served

COMMANDS = {
    "app": "shop:app --port {port}",
    "uvicorn": "-- uvicorn shop:app --port {port}",
    "uvicorn, workers": "-- uvicorn shop:app --port {port} --workers 2",
    "uvicorn, app-dir": "-- uvicorn --app-dir {folder} shop:app --port {port}",
    "gunicorn": "-- gunicorn --graceful-timeout 10 -b 127.0.0.1:{port} -w 2 "
    "-k uvicorn_worker.UvicornWorker shop:app",
    "hypercorn": "-- hypercorn -b 127.0.0.1:{port} shop:app",
    "granian": "-- granian --interface asgi --port {port} --workers-kill-timeout 10 shop:app",
    "daphne": "-- daphne -b 127.0.0.1 -p {port} shop:app",
}
OWN = "ANSWER = 'of our own'\n"
USES_IT = (
    APP
    + """
from telemetry import ANSWER

async def own(request):
    return PlainTextResponse(ANSWER)

app.router.routes.append(Route("/own", own))
"""
)


def own_module(folder: Path, kind: str) -> None:
    """Write the user's `telemetry`, a module or a package."""
    if kind == "package":
        folder = folder / "telemetry"
        folder.mkdir()
    (folder / ("__init__.py" if kind == "package" else "telemetry.py")).write_text(OWN)


@pytest.mark.parametrize("kind", ["module", "package"])
@pytest.mark.parametrize("name", COMMANDS)
def test_app_with_own_telemetry_module_is_instrumented(
    name: str, kind: str, otlp: Receiver, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "shop.py").write_text(USES_IT)
    own_module(app, kind)
    port = free_port()
    folder = tmp_path if "app-dir" in name else app
    command = COMMANDS[name].format(port=port, folder=app).split()
    env = environment(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_METRIC_EXPORT_INTERVAL="500")
    with served([str(SCRIPTS / "telemetry"), "run", *command], folder, env, port) as server:
        assert server.get("/own") == "of our own"
        server.get("/items/1")
        server.wait_counted(1)
        server.end()
        assert "not instrumented" not in server.output()
    assert exported(otlp) == 1
    assert "sequence 1" in otlp.bodies()


@pytest.mark.parametrize("kind", ["module", "package"])
def test_our_processes_start_beside_own_telemetry_module(kind: str, tmp_path: Path) -> None:
    own_module(tmp_path, kind)
    done = subprocess.run(
        own_package.command("telemetry", "proxy", "--help"),
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: telemetry proxy ")


def test_spawned_child_imports_our_package(tmp_path: Path) -> None:
    """In a spawned child, e.g. a worker of the proxy, multiprocessing runs the parent's script
    first, as `__mp_main__`."""
    own_module(tmp_path, "module")
    script = (
        f"import runpy; runpy.run_path({own_package.__file__!r}, run_name='__mp_main__')\n"
        "import telemetry; print(telemetry.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{own_package.FOLDER}/__init__.py\n"
