"""Errors before anything starts: one line with the error, one with the remedy, and an exit code.

Nothing is left running.
"""

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
    """Run the command in an environment without engines, internet and Go."""
    ports = {f"TELEMETRY_{n.upper()}_PORT": str(p) for n, p in free_ports().items()}
    given = {
        "TELEMETRY_HOME": str(home),
        "TELEMETRY_ENGINES": str(home.parent / "engines"),
        "TELEMETRY_RELEASES": "http://127.0.0.1:9",  # the discard port: connections are refused
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
    """Check the exit code and that nothing runs, and return the error and the remedy."""
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
def test_invalid_setting_is_reported(tmp_path: Path, key: str, value: str, expected: str) -> None:
    """The error comes before engines are built."""
    home = tmp_path / "home"
    done = telemetry(home, "up", "--engines", "path", **{key: value})
    error, remedy = refused(done, home, 78)
    assert error.startswith(f"{key}='{value}' is not {expected}")
    assert key in remedy


def test_unwritable_state_folder_is_reported() -> None:
    home = Path("/proc/telemetry")
    error, remedy = refused(telemetry(home, "up", HOME="/tmp"), home, 73)
    assert error.startswith("state folder /proc/telemetry can't be written: ")
    assert "TELEMETRY_HOME" in remedy


def test_no_source_of_engines_exits_69_with_reasons(tmp_path: Path) -> None:
    home = tmp_path / "home"
    error, remedy = refused(telemetry(home, "up"), home, 69)
    assert error.startswith(
        "collector 0.160.0 is unavailable: no suitable otelcol-telemetry or otelcol-contrib"
    )
    assert "can't be reached" in error
    assert error.endswith("go: Go is not installed")
    assert "connect to the internet, install Go" in remedy
    assert not list((tmp_path / "engines").glob("*")), "no partial files"


def test_taken_port_is_reported_before_engines_are_fetched(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = telemetry(home, "up", TELEMETRY_LOKI_PORT=str(port))
    error, remedy = refused(done, home, 75)
    assert error.startswith(f"port {port}, which loki needs, is taken by process {os.getpid()} ")
    assert remedy == "stop that process, or set TELEMETRY_LOKI_PORT to another port"


def test_stale_files_of_killed_supervisor_are_ignored(tmp_path: Path) -> None:
    """A killed supervisor or a power failure leaves such files."""
    layout = StateFolder(tmp_path / "home")
    layout.make()
    layout.lock.write_text("1")
    layout.pids.write_text('{"loki": 1}')
    layout.socket.touch()
    (layout.home / "up.lock").touch()
    done = telemetry(layout.home, "up")
    assert done.returncode == 69, "it fails only when it looks for engines"
    assert not layout.pids.exists()
    assert telemetry(layout.home, "down").stdout == f"No stack runs in {layout.home}.\n"


@pytest.mark.parametrize("command", [["status"], ["restart"], ["restart", "loki"]])
def test_command_without_running_stack_exits_3(tmp_path: Path, command: list[str]) -> None:
    home = tmp_path / "home"
    error, remedy = refused(telemetry(home, *command), home, 3)
    assert error == f"no stack runs in {home}"
    assert remedy == "start it with `telemetry up`"


def test_logs_without_output_exits_66(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("/etc/passwd", "**"):
        refused(telemetry(home, "logs", name), home, 66)
    error, remedy = refused(telemetry(home, "logs", "loki"), home, 66)
    assert error == f"no output of loki in {home}/output"
    assert remedy == "start the stack with `telemetry up`"


def test_search_without_loki_exits_69(tmp_path: Path) -> None:
    home = tmp_path / "home"
    error, remedy = refused(telemetry(home, "search", "x"), home, 69)
    assert error.startswith("Loki at https://127.0.0.1:")
    assert "telemetry up" in remedy


def test_demo_with_running_stack_exits_75(tmp_path: Path) -> None:
    """The error says how to start the demo anyway."""
    home = tmp_path / "home"
    layout = StateFolder(home)
    layout.make()
    supervisor_client.start(layout, [], {**os.environ, "TELEMETRY_HOME": str(home)})
    try:
        done = telemetry(home, "demo")
        assert done.returncode == 75
        assert done.stderr.startswith(f"error: a stack is already running in {home}")
    finally:
        supervisor_client.ask(layout, 30.0, do="stop")


def test_every_port_has_a_variable() -> None:
    for name in PORTS:
        key = f"TELEMETRY_{name.upper()}_PORT"
        assert StackSettings.from_env({key: "1234"}).ports[name] == 1234
