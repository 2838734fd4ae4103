"""The parent of a run: starts the server, passes signals on, and sees to what is left behind."""

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
from telemetry.run.run_folder import Shared
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
# A terminal sends these to the whole group: the child has them already.
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH)
_SITE = Path(__file__).parent / "site"


def run(rest: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a server until it ends.

    Args:
        rest: ``["--", command, …]`` or ``["app:app", uvicorn's options…]``.
        environ: the environment.

    Returns:
        The server's exit code; 128 and the signal's number where one ended it.

    Raises:
        TelemetryError: the command line, a setting, the app, the port or the command itself
            can't be used.
    """
    command = _command(list(rest))
    settings = library.Settings.from_env(environ)  # a bad OTEL_* value is told here, once
    if settings.disabled:
        return _wait(command, dict(environ))
    _check_port(command, environ)
    shared = Shared(command, environ, settings)
    path = os.pathsep.join(filter(None, (str(_SITE), environ.get("PYTHONPATH", ""))))
    try:
        code = _wait(command, {**environ, **shared.variables, "PYTHONPATH": path})
        if told := load_failure.told(shared.folder):
            message, remedy, exit_code = told
            raise TelemetryError(message, remedy=remedy, exit_code=exit_code)
        return code
    finally:
        shared.end()


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
    """Fail where there is nothing to serve with, or no such module; without importing any."""
    if importlib.util.find_spec("uvicorn") is None:
        raise TelemetryError(
            "`telemetry run module:app` serves by uvicorn, which is not installed",
            remedy="pip install uvicorn, or give another server: telemetry run -- hypercorn …",
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
            remedy=f"run it from the folder that {top}.py is in, or name that with --app-dir",
            exit_code=66,  # EX_NOINPUT
        )


def _check_port(command: Sequence[str], environ: Mapping[str, str]) -> None:
    address = command_line.address(command, environ, Path.cwd())
    if address is None or not ports.is_taken(*address):
        return
    owner = ports.owner(address[1])
    raise TelemetryError(
        f"port {address[1]} on {address[0]}, where {command_line.program(command)} is to "
        "listen, is taken" + (owner and f" by {owner}"),
        remedy="stop that process, or give the server another port",
        exit_code=75,  # EX_TEMPFAIL
    )


def _wait(command: list[str], env: dict[str, str]) -> int:
    """Start the server and wait for its end."""
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if number in _FROM_TERMINAL and sys.stdin is not None and sys.stdin.isatty():
            return
        if children:
            children[0].send_signal(number)
        else:
            early.append(number)

    # Before there is a child, so that none can be left behind. What is ignored (nohup) stays so.
    heard = [number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in heard}
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
    # Beside the interpreter, where its environment is not activated.
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
