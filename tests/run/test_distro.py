"""`opentelemetry-instrument COMMAND`: what it does to a command that is no server, and to one it
can't instrument. What it does to servers stands in test_servers.py."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

from telemetry.run.distro import Configurator, Distro
from tests.run.serving import ended

WHAT = "import os, sys; print(os.environ.get('TELEMETRY_RUN_DIR'), 'asyncio' in sys.modules)"


def instrumented(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return ended(
        ["opentelemetry-instrument", *command], folder, OTEL_PYTHON_DISTRO="telemetry", **env
    )


def test_the_entry_points_are_ours() -> None:
    for group, wanted in (("distro", Distro), ("configurator", Configurator)):
        points = importlib.metadata.entry_points(group=f"opentelemetry_{group}", name="telemetry")
        assert [point.load() for point in points] == [wanted]
    assert issubclass(Distro, BaseDistro)


def test_requests_are_not_counted_by_others_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "redis")
    Distro().configure()
    disabled = os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"].split(",")
    assert disabled == ["redis", "asgi", "starlette", "fastapi"]


def test_a_command_that_is_no_server_runs_as_it_is(tmp_path: Path) -> None:
    done = instrumented(tmp_path, sys.executable, "-c", "raise SystemExit(7)")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


def test_its_processes_share_a_folder_that_is_gone_with_it(tmp_path: Path) -> None:
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


def test_a_folder_that_is_given_is_used_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    done = instrumented(tmp_path, sys.executable, "-c", WHAT, TELEMETRY_RUN_DIR=str(folder))
    assert done.stdout.startswith(str(folder))
    assert folder.is_dir()


def test_a_setting_that_cannot_be_used_is_said_once_and_the_command_runs(tmp_path: Path) -> None:
    done = instrumented(
        tmp_path, sys.executable, "-c", "print('runs')", OTEL_METRIC_EXPORT_INTERVAL="soon"
    )
    assert done.returncode == 0
    assert done.stdout == "runs\n"
    assert done.stderr == (
        "telemetry: not instrumented: OTEL_METRIC_EXPORT_INTERVAL='soon' is not "
        "a whole number from 10 to 3600000\n"
    )


def test_disabled_does_nothing(tmp_path: Path) -> None:
    done = instrumented(tmp_path, sys.executable, "-c", WHAT, OTEL_SDK_DISABLED="true")
    assert done.stdout.startswith("None ")
