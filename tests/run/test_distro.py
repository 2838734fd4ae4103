"""`opentelemetry-instrument COMMAND` with a command that is not a server, or that can't be
instrumented. Tests with servers are in test_servers.py."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

from telemetry.run.distro import Configurator, Distro
from tests.run.serving import run_to_end

SCRIPT = "import os, sys; print(os.environ.get('TELEMETRY_RUN_DIR'), 'asyncio' in sys.modules)"


def instrumented(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run_to_end(
        ["opentelemetry-instrument", *command], folder, OTEL_PYTHON_DISTRO="telemetry", **env
    )


def test_entry_points_load_our_classes() -> None:
    for group, wanted in (("distro", Distro), ("configurator", Configurator)):
        points = importlib.metadata.entry_points(group=f"opentelemetry_{group}", name="telemetry")
        assert [point.load() for point in points] == [wanted]
    assert issubclass(Distro, BaseDistro)


def test_asgi_instrumentations_are_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis")
    Distro().configure()
    disabled = os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"].split(",")
    assert disabled == ["redis", "asgi", "starlette", "fastapi"]


def test_command_that_is_not_a_server_runs_unchanged(tmp_path: Path) -> None:
    done = instrumented(tmp_path, sys.executable, "-c", "raise SystemExit(7)")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


def test_processes_share_run_folder_deleted_at_end(tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys\n"
        "own = os.environ['TELEMETRY_RUN_DIR']\n"
        "child = 'import os; print(os.environ[\"TELEMETRY_RUN_DIR\"])'\n"
        "assert subprocess.check_output([sys.executable, '-c', child], text=True).strip() == own\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    sys.exit()\n"  # runs atexit, as gunicorn's workers do
        "os.waitpid(pid, 0)\n"
        "assert os.path.isdir(own), 'a child has removed it'\n"
        "print(os.environ['OTEL_SERVICE_NAME'])\n"
    )
    (tmp_path / "shop.py").write_text(script)
    done = instrumented(tmp_path, sys.executable, "shop.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "shop\n"


def test_given_run_folder_is_used_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    done = instrumented(tmp_path, sys.executable, "-c", SCRIPT, TELEMETRY_RUN_DIR=str(folder))
    assert done.stdout.startswith(str(folder))
    assert folder.is_dir()


def test_invalid_setting_is_printed_once_and_command_runs(tmp_path: Path) -> None:
    done = instrumented(
        tmp_path, sys.executable, "-c", "print('runs')", OTEL_METRIC_EXPORT_INTERVAL="soon"
    )
    assert done.returncode == 0
    assert done.stdout == "runs\n"
    assert done.stderr == (
        "telemetry: not instrumented: OTEL_METRIC_EXPORT_INTERVAL='soon' is not "
        "a whole number from 10 to 3600000\n"
    )


def test_disabled_sdk_creates_no_run_folder(tmp_path: Path) -> None:
    done = instrumented(tmp_path, sys.executable, "-c", SCRIPT, OTEL_SDK_DISABLED="true")
    assert done.stdout.startswith("None ")
