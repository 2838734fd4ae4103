"""What a run leaves behind: no files, its last values exported, no wait for a collector."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.ports import free_port
from tests.run.serving import APP, BARE, PYTHON, TELEMETRY, environment, run, served


def test_the_stack_is_told_where_to_look_while_it_runs(folder: Path, otlp: Receiver) -> None:
    targets = folder / "home/targets"
    targets.mkdir(parents=True)
    port = free_port()
    env = environment(
        TELEMETRY_HOME=str(folder / "home"),
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
        OTEL_RESOURCE_ATTRIBUTES="service.name=corner-shop",
    )
    command = [*TELEMETRY, "run", "shop:app", "--port", str(port)]
    with served(command, folder, env, port) as server:
        (file,) = targets.iterdir()
        assert json.loads(file.read_text()) == [
            {
                "targets": [f"127.0.0.1:{port}"],
                "labels": {"job": "corner-shop", "__metrics_path__": "/metrics"},
            }
        ]
        second = run(folder, "shop:app", "--port", str(port), TELEMETRY_HOME=str(folder / "home"))
        assert second.returncode == 75
        assert file.exists(), "one that could not start takes nothing away"
        server.end()
    assert not list(targets.iterdir())


def test_the_last_worker_killed_is_exported_by_the_parent(folder: Path, otlp: Receiver) -> None:
    port = free_port()
    env = environment(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_METRIC_EXPORT_INTERVAL="60000")
    command = [*TELEMETRY, "run", "shop:app", "--port", str(port)]
    from tests.run.test_servers import exported

    with served(command, folder, env, port) as server:
        pids = [server.get(f"/items/{i}") for i in range(20)]
        server.wait_counted(20)
        os.kill(int(pids[0]), signal.SIGKILL)
        assert server.process.wait(30) == 128 + 9
    assert exported(otlp) == 20


@pytest.mark.parametrize("app", [APP, BARE])
def test_an_exit_does_not_wait_for_a_collector_that_hangs(
    folder: Path, otlp: Receiver, app: str
) -> None:
    (folder / "shop.py").write_text(app)
    otlp.answering.clear()
    port = free_port()
    command = [*TELEMETRY, "run", "shop:app", "--port", str(port)]
    env = environment(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, TMPDIR=str(folder))
    with served(command, folder, env, port) as server:
        server.get("/items/1")
        server.process.terminate()
        assert server.process.wait(30) == 128 + signal.SIGTERM  # it would hang for 60
    assert "could not be exported" in server.output()
    assert not list(folder.glob("telemetry-run-*"))


def test_a_collector_that_is_away_costs_the_console_one_line_a_signal(folder: Path) -> None:
    port = free_port()
    nobody = f"http://127.0.0.1:{free_port()}"
    env = environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=nobody,
        OTEL_EXPORTER_OTLP_TIMEOUT="2",
        OTEL_METRIC_EXPORT_INTERVAL="200",
    )
    with served([*TELEMETRY, "run", "shop:app", "--port", str(port)], folder, env, port) as server:

        def dropped() -> bool:
            shown = server.get("/metrics")
            wanted = [f'reason="export_failed",signal="{s}"' for s in ("logs", "metrics")]
            return all(w in shown for w in wanted)

        until(dropped)
        server.end()
    ours = [line for line in server.output().splitlines() if not line.startswith("INFO: ")]
    assert sorted(line.partition(" (")[0] for line in ours) == [
        f"telemetry: logs can't be exported to {nobody}",
        f"telemetry: metrics can't be exported to {nobody}",
        f"telemetry: the last values of this run could not be exported to {nobody}",
    ]


def test_a_signal_before_the_command_has_started_is_not_lost(folder: Path) -> None:
    """Sent as soon as there is a process: whenever it comes, both end and nothing is left."""
    process = subprocess.Popen(
        [*PYTHON, "-c", "import time; time.sleep(60)"], env=environment(TMPDIR=str(folder))
    )
    stop = threading.Event()

    def pester() -> None:
        while not stop.wait(0.02):
            if process.poll() is None:
                process.terminate()

    thread = threading.Thread(target=pester)
    thread.start()
    try:
        assert process.wait(30) in (128 + signal.SIGTERM, -signal.SIGTERM)
    finally:
        stop.set()
        thread.join()
