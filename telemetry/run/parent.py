"""The parent of a run: it starts the server, forwards signals, and exports orphans at the end."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from telemetry.errors import TelemetryError, UsageError
from telemetry.run import command_line, load_failure
from telemetry.run.run_folder import Run
from telemetry.settings import library
from telemetry.system import ports

_FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
)
# A terminal sends these to the whole process group, so the child gets them without us.
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH)
_SITE = Path(__file__).parent / "site"


def run(rest: Sequence[str], child_env: Mapping[str, str]) -> int:
    """Run a server until it ends.

    Args:
        rest: ``["--", command, …]`` or ``["app:app", uvicorn's options…]``.
        child_env: the environment of its processes.

    Returns:
        The server's exit code; 128 plus the signal's number if a signal ended it.

    Raises:
        TelemetryError: the command line, a setting, the app, the port or the command itself
            can't be used.
    """
    command = _command(list(rest))
    settings = library.Settings.from_env(child_env)  # here, so that a bad value is reported once
    if settings.disabled:
        return _wait(command, dict(child_env))
    _check_port(command, child_env)
    this_run = Run(command, child_env, settings)
    path = os.pathsep.join(filter(None, (str(_SITE), child_env.get("PYTHONPATH", ""))))
    try:
        code = _wait(command, {**child_env, **this_run.variables, "PYTHONPATH": path})
        if failure := load_failure.read(this_run.folder):
            message, remedy, exit_code = failure
            raise TelemetryError(message, remedy=remedy, exit_code=exit_code)
        return code
    finally:
        this_run.end()


def _command(rest: list[str]) -> list[str]:
    if rest and rest[0] == "--":
        command = rest[1:]
    elif rest and ":" in rest[0] and not rest[0].startswith("-"):
        _check_app(rest[0], rest)
        command = [sys.executable, "-m", "uvicorn", *rest]
    else:
        command = []
    if not command:
        raise UsageError(
            "nothing to run" if not rest else f"{rest[0]!r} is neither module:app nor --",
            remedy="telemetry run app:app, or telemetry run -- uvicorn app:app",
        )
    return command


def _check_app(app: str, rest: Sequence[str]) -> None:
    """Raise if uvicorn or the app's module is missing. Imports neither."""
    if importlib.util.find_spec("uvicorn") is None:
        raise TelemetryError(
            "`telemetry run module:app` needs uvicorn, which is not installed",
            remedy="pip install uvicorn, or use another server: telemetry run -- hypercorn …",
            exit_code=69,  # EX_UNAVAILABLE
        )
    if any(option.startswith("--app-dir") for option in rest):
        return
    folder, path = os.getcwd(), sys.path[:]
    top = app.partition(":")[0].partition(".")[0]
    try:
        sys.path.insert(0, folder)  # as uvicorn does
        found = importlib.util.find_spec(top) if top else None
    except (ImportError, ValueError):
        found = None
    finally:
        sys.path[:] = path
    if found is None:
        raise TelemetryError(
            f"{app}: there is no module {top!r} in {folder} nor among the installed packages",
            remedy=f"run it from the folder that has {top}.py, or name that folder by --app-dir",
            exit_code=66,  # EX_NOINPUT
        )


def _check_port(command: Sequence[str], child_env: Mapping[str, str]) -> None:
    address = command_line.address(command, child_env, Path.cwd())
    if address is None or not ports.is_taken(*address):
        return
    owner = ports.owner(address[1])
    raise TelemetryError(
        f"{command_line.program(command)} can't listen on {address[0]}, port {address[1]}: "
        "it is taken" + (owner and f" by {owner}"),
        remedy="stop that process, or give the server another port",
        exit_code=75,  # EX_TEMPFAIL
    )


def _wait(command: list[str], env: dict[str, str]) -> int:
    """Start the server and wait until it exits."""
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if number in _FROM_TERMINAL and sys.stdin is not None and sys.stdin.isatty():
            return
        if children:
            children[0].send_signal(number)
        else:
            early.append(number)

    # Before the child starts, so that no signal can end us and leave it running. Ignored signals
    # (nohup) stay ignored.
    handled = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in handled}
    try:
        children.append(_start(command, env))
        for number in early:
            children[0].send_signal(number)
        code = children[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    # The command may be beside the interpreter, in an environment that is not activated.
    own = Path(sys.executable).parent / command[0]
    if os.sep not in command[0] and not shutil.which(command[0]) and own.is_file():
        command = [str(own), *command[1:]]
    try:
        return subprocess.Popen(command, env=env)
    except FileNotFoundError as error:
        raise TelemetryError(
            f"there is no command {command[0]!r} on PATH",
            remedy=f"pip install {command[0]}, or give its path",
            exit_code=127,
        ) from error
    except PermissionError as error:
        raise TelemetryError(
            f"{command[0]!r} is not executable",
            remedy=f"chmod +x {command[0]}, or put its interpreter before it",
            exit_code=126,
        ) from error
