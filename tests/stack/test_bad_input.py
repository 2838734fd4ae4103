"""What can be wrong before anything starts: one clear line, what to do, its own exit code, and
nothing left half-started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry.settings.stack import PORTS, StackSettings
from telemetry.stack import supervisor_client
from telemetry.stack.state_folder import StateFolder
from tests.ports import free_ports


def telemetry(home: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in an environment of its own: no engines, no internet, no Go."""
    ports = {f"TELEMETRY_{n.upper()}_PORT": str(p) for n, p in free_ports().items()}
    given = {
        "TELEMETRY_HOME": str(home),
        "TELEMETRY_ENGINES": str(home.parent / "engines"),
        "TELEMETRY_RELEASES": "http://127.0.0.1:9",  # the discard port: nobody listens
        "TELEMETRY_GRAFANA": "off",
        "PATH": "/nowhere",
        "HOME": str(home.parent),
    }
    return subprocess.run(
        [sys.executable, "-m", "telemetry", *args],
        env={**ports, **given, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str], home: Path, code: int) -> tuple[str, str]:
    """What it said is wrong, and what to do; nothing runs."""
    assert done.returncode == code, done.stdout + done.stderr
    error, remedy = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert remedy.startswith("  -> ")
    layout = StateFolder(home)
    assert not supervisor_client.is_running(layout)
    assert not layout.pids.exists()
    assert not layout.socket.exists()
    return error.removeprefix("error: "), remedy.removeprefix("  -> ")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("TELEMETRY_LOKI_PORT", "ten", "a whole number from 1 to 65535"),
        ("TELEMETRY_RETENTION_DAYS", "0", "a whole number from 1 to 3650"),
        ("TELEMETRY_RETENTION_GB", "a lot", "a whole number from 1 to 100000"),
        ("TELEMETRY_ALERTING", "nagios", "grafana or prometheus"),
        ("TELEMETRY_GRAFANA", "perhaps", "true or false"),
        ("TELEMETRY_PROMETHEUS_URL", "localhost:9090", "an address"),
        ("TELEMETRY_OTLP_BRIDGE_ADDRESS", "4318", "an address with a port"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "often", "a whole number"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke", "http/protobuf or grpc"),
        ("TELEMETRY_ALERT_MEMORY_PERCENT", "most", ""),
    ],
)
def test_a_setting_that_can_not_be_used(
    tmp_path: Path, key: str, value: str, expected: str
) -> None:
    """Said at once, not after the engines were built."""
    home = tmp_path / "home"
    done = telemetry(home, "up", "--engines", "path", **{key: value})
    error, remedy = refused(done, home, 78)
    assert error.startswith(f"{key}='{value}' is not {expected}")
    assert key in remedy


def test_a_state_folder_that_can_not_be_written() -> None:
    home = Path("/proc/telemetry")
    error, remedy = refused(telemetry(home, "up", HOME="/tmp"), home, 73)
    assert error.startswith("state folder /proc/telemetry can't be written: ")
    assert "TELEMETRY_HOME" in remedy


def test_no_engines_no_internet_no_go(tmp_path: Path) -> None:
    home = tmp_path / "home"
    error, remedy = refused(telemetry(home, "up"), home, 69)
    assert error.startswith(
        "collector 0.160.0 can't be had: no otelcol-telemetry or otelcol-contrib"
    )
    assert "can't be reached" in error
    assert error.endswith("go: Go is not installed")
    assert "connect to the internet, install Go" in remedy
    assert not list((tmp_path / "engines").glob("*")), "nothing half-made"


def test_a_taken_port_is_said_before_engines_are_fetched(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = telemetry(home, "up", TELEMETRY_LOKI_PORT=str(port))
    error, remedy = refused(done, home, 75)
    assert error.startswith(f"port {port}, which loki needs, is taken by process {os.getpid()} ")
    assert remedy == "stop that process, or set TELEMETRY_LOKI_PORT to another port"


def test_a_stale_lock_is_in_nobody_s_way(tmp_path: Path) -> None:
    """Files of a supervisor that was killed, or of a machine that lost its power."""
    layout = StateFolder(tmp_path / "home")
    layout.make()
    layout.lock.write_text("1")
    layout.pids.write_text('{"loki": 1}')
    layout.socket.touch()
    (layout.home / "up.lock").touch()
    done = telemetry(layout.home, "up")
    assert done.returncode == 69, "it got as far as looking for engines"
    assert not layout.pids.exists()
    assert telemetry(layout.home, "down").stdout == f"Nothing runs in {layout.home}.\n"


@pytest.mark.parametrize("command", [["status"], ["restart"], ["restart", "loki"]])
def test_nothing_runs(tmp_path: Path, command: list[str]) -> None:
    home = tmp_path / "home"
    error, remedy = refused(telemetry(home, *command), home, 3)
    assert error == f"nothing runs in {home}"
    assert remedy == "start it with `telemetry up`"


def test_no_output_yet(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("/etc/passwd", "**"):
        refused(telemetry(home, "logs", name), home, 66)
    error, remedy = refused(telemetry(home, "logs", "loki"), home, 66)
    assert error == f"there is no output of loki in {home}/output"
    assert remedy == "start the stack with `telemetry up`"


def test_no_loki_to_search(tmp_path: Path) -> None:
    home = tmp_path / "home"
    error, remedy = refused(telemetry(home, "search", "x"), home, 69)
    assert error.startswith("Loki at http://127.0.0.1:")
    assert "telemetry up" in remedy


def test_a_demo_beside_a_running_stack(tmp_path: Path) -> None:
    """It wants one of its own, and says how."""
    home = tmp_path / "home"
    layout = StateFolder(home)
    layout.make()
    supervisor_client.start(layout, [], {**os.environ, "TELEMETRY_HOME": str(home)})
    try:
        done = telemetry(home, "demo")
        assert done.returncode == 75
        assert done.stderr.startswith(f"error: a stack runs already in {home}")
    finally:
        supervisor_client.ask(layout, 30.0, do="stop")


def test_every_port_has_its_variable() -> None:
    for name in PORTS:
        key = f"TELEMETRY_{name.upper()}_PORT"
        assert StackSettings.from_env({key: "1234"}).ports[name] == 1234
