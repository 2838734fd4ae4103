"""The end of a run: no files are left, the last values are exported, no Collector delays it."""

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


def test_scrape_target_exists_while_run_lasts(folder: Path, otlp: Receiver) -> None:
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
        assert file.stat().st_mode & 0o777 == 0o644, "Prometheus may run as another user"
        assert json.loads(file.read_text()) == [
            {
                "targets": [f"127.0.0.1:{port}"],
                "labels": {"job": "corner-shop", "__metrics_path__": "/metrics"},
            }
        ]
        second = run(folder, "shop:app", "--port", str(port), TELEMETRY_HOME=str(folder / "home"))
        assert second.returncode == 75
        assert file.exists(), "a run that could not start deletes no target"
        server.end()
    assert not list(targets.iterdir())


def test_killed_last_worker_is_exported_by_parent(folder: Path, otlp: Receiver) -> None:
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
def test_hanging_collector_does_not_delay_exit(folder: Path, otlp: Receiver, app: str) -> None:
    (folder / "shop.py").write_text(app)
    otlp.answering.clear()
    port = free_port()
    command = [*TELEMETRY, "run", "shop:app", "--port", str(port)]
    env = environment(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, TMPDIR=str(folder))
    with served(command, folder, env, port) as server:
        server.get("/items/1")
        server.process.terminate()
        assert server.process.wait(30) == 128 + signal.SIGTERM  # the Collector would hang for 60 s
    assert "could not be exported" in server.output()
    assert not list(folder.glob("telemetry-run-*"))


def test_absent_collector_prints_one_line_per_signal(folder: Path) -> None:
    port = free_port()
    absent = f"http://127.0.0.1:{free_port()}"
    env = environment(
        OTEL_EXPORTER_OTLP_ENDPOINT=absent,
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
        f"telemetry: logs can't be exported to {absent}",
        f"telemetry: metrics can't be exported to {absent}",
        f"telemetry: the last values of this run could not be exported to {absent}",
    ]


def test_signal_before_start_of_command_ends_both(folder: Path) -> None:
    """Signals are sent from the start of the process. Parent and child end at any of them."""
    process = subprocess.Popen(
        [*PYTHON, "-c", "import time; time.sleep(60)"], env=environment(TMPDIR=str(folder))
    )
    stop = threading.Event()

    def send_signals() -> None:
        while not stop.wait(0.02):
            if process.poll() is None:
                process.terminate()

    thread = threading.Thread(target=send_signals)
    thread.start()
    try:
        assert process.wait(30) in (128 + signal.SIGTERM, -signal.SIGTERM)
    finally:
        stop.set()
        thread.join()
