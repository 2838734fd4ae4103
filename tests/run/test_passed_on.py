"""`telemetry run` is transparent: exit codes, arguments, signals and the environment."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.run.serving import PYTHON, environment, run


@pytest.mark.parametrize("code", [0, 1, 3, 42])
def test_exit_code_of_command_is_returned(folder: Path, code: int) -> None:
    assert run(folder, "--", sys.executable, "-c", f"raise SystemExit({code})").returncode == code


def test_options_after_command_are_passed_to_it(folder: Path) -> None:
    script = "import sys; print(sys.argv[1:])"
    done = run(folder, "--", sys.executable, "-c", script, "--version", "--", "-h", "a b")
    assert done.stdout == "['--version', '--', '-h', 'a b']\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signal_is_forwarded_to_command(folder: Path, number: signal.Signals) -> None:
    script = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda n, f: sys.exit(n + 50))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    process = subprocess.Popen(
        [*PYTHON, "-c", script],
        env=environment(TMPDIR=str(folder)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(30) == number + 50
    process.stdout.close()
    assert not list(folder.glob("telemetry-run-*"))


def test_command_ended_by_signal_returns_128_plus_number(folder: Path) -> None:
    script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run(folder, "--", sys.executable, "-c", script).returncode == 128 + 9


def test_ignored_signal_stays_ignored(folder: Path) -> None:
    """`nohup telemetry run …` continues after its terminal is closed."""
    script = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    done = subprocess.run(
        ["nohup", *PYTHON, "-c", script],
        env=environment(TMPDIR=str(folder)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "True\n"


def test_sitecustomize_and_pythonpath_of_user_are_kept(folder: Path) -> None:
    own = folder / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("print('customized')\n")
    (own / "extra.py").write_text("")
    done = run(
        folder,
        "--",
        sys.executable,
        "-c",
        "import extra, sys; print('asyncio' in sys.modules)",
        PYTHONPATH=str(own),
    )
    # Printed twice: `telemetry` itself runs with the user's PYTHONPATH too.
    assert done.stdout == "customized\n" * 2 + "False\n", "the hooks import nothing heavy"


def test_interpreter_without_telemetry_runs_app_uninstrumented(folder: Path) -> None:
    """`python -S` has no site-packages, like an interpreter without telemetry installed."""
    (folder / "uvicorn").mkdir()
    (folder / "uvicorn/__init__.py").touch()
    (folder / "uvicorn/config.py").write_text("print('served')\n")
    site = Path(__file__).parents[2] / "telemetry/run/site"
    script = (
        f"import sys; sys.path[:0] = [{str(site)!r}, '.']; import sitecustomize, uvicorn.config"
    )
    done = run(folder, "--", sys.executable, "-S", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "served\n"
    assert done.stderr.startswith("telemetry: not instrumented, No module named 'opentelemetry' (")


def test_disabled_sdk_runs_bare_command(folder: Path) -> None:
    script = "import os; print(os.environ.get('TELEMETRY_RUN_DIR'), os.environ.get('PYTHONPATH'))"
    done = run(folder, "--", sys.executable, "-c", script, OTEL_SDK_DISABLED="true")
    assert done.stdout == "None None\n"
