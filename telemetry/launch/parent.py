"""The parent of a run: starts the server, passes signals on, and sees to what is left behind.

It gives the workers a folder to share (so that any of them answers `/metrics` for all) and,
once they have exited, exports the last values of those that were killed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from telemetry import config
from telemetry.errors import TelemetryError

FORWARDED = (
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
SITE = Path(__file__).parent / "site"


def run(rest: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a server until it ends.

    Args:
        rest: ``["--", command, …]`` or ``["app:app", uvicorn's options…]``.
        environ: the environment.

    Returns:
        The server's exit code; 128 and the signal's number where one ended it.

    Raises:
        TelemetryError: the command line, a setting, or the command itself can't be used.
    """
    command = _command(list(rest))
    settings = config.Settings.from_env(environ)  # a bad OTEL_* value is told here, once
    if settings.disabled:
        return _wait(_start(command, dict(environ)), None)
    run_dir = Path(tempfile.mkdtemp(prefix="telemetry-run-"))
    env = {
        **environ,
        "TELEMETRY_RUN_DIR": str(run_dir),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SITE), environ.get("PYTHONPATH", "")))),
    }
    if not settings.service_name:
        env["OTEL_SERVICE_NAME"] = _service_name(command)
    try:
        with _Target(env, _address(command)):
            code = _wait(_start(command, env), run_dir)
        _adopt(run_dir, env)
        return code
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def _command(rest: list[str]) -> list[str]:
    if rest and rest[0] == "--":
        command = rest[1:]
    elif rest and ":" in rest[0] and not rest[0].startswith("-"):
        command = [sys.executable, "-m", "uvicorn", *rest]
    else:
        command = []
    if not command:
        raise TelemetryError(
            "nothing to run" if not rest else f"{rest[0]!r} is neither module:app nor --",
            remedy="telemetry run app:app, or telemetry run -- uvicorn app:app",
            exit_code=64,  # EX_USAGE
        )
    return command


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, env=env)
    except FileNotFoundError as error:
        raise TelemetryError(
            f"there is no command {command[0]!r} on PATH",
            remedy=f"pip install {command[0]}, or give its path",
            exit_code=127,
        ) from error
    except PermissionError as error:
        raise TelemetryError(f"{command[0]!r} is not executable", exit_code=126) from error


def _wait(child: subprocess.Popen[bytes], run_dir: Path | None) -> int:
    def forward(number: int, frame: FrameType | None) -> None:
        # At a terminal Ctrl-C reaches the whole group: the child has it already.
        if not (number == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty()):
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _adopt(run_dir: Path, env: Mapping[str, str]) -> None:
    """Export what killed workers left; a failure is told but never changes the exit code."""
    if not any(run_dir.glob("*.series")):
        return
    from telemetry import pipeline

    try:
        complete = pipeline.adopt_leftovers(run_dir)
    except Exception as error:
        complete = False
        logging.getLogger(__name__).debug("adopting failed", exc_info=error)
    if not complete:
        print(
            "telemetry: the last values of this run could not be exported to "
            f"{config.Settings.from_env(env).otlp_endpoint}",
            file=sys.stderr,
        )


def _service_name(command: Sequence[str]) -> str:
    """A name where none is given: the module of ``module:app``, else the command."""
    for argument in command[1:]:
        module, colon, attribute = argument.partition(":")
        if colon and attribute.isidentifier() and module.replace(".", "").isidentifier():
            return module.rpartition(".")[2] if module.rpartition(".")[2] != "app" else module
    return Path(command[0]).name


def _address(command: Sequence[str]) -> tuple[str, int] | None:
    """Where the server will listen, as far as its command tells; None where it doesn't."""
    host, port = "127.0.0.1", 8000
    for i, argument in enumerate(command):
        name, equals, value = argument.partition("=")
        value = value if equals else command[i + 1] if i + 1 < len(command) else ""
        if name in ("--uds", "--fd"):
            return None
        if name == "--port" or (name == "-p" and value.isdigit()):
            if not value.isdigit():
                return None
            port = int(value)
        elif name in ("--host", "-h") and value:
            host = value
        elif name in ("--bind", "-b") and value:
            given_host, colon, given_port = value.rpartition(":")
            if not colon or not given_port.isdigit():
                return None
            host, port = given_host, int(given_port)
    return ("127.0.0.1" if host in ("0.0.0.0", "::", "", "localhost") else host), port


class _Target:
    """Tells the stack's Prometheus, where there is one, that this service is meant to run, so
    that it notices when it doesn't."""

    def __init__(self, env: Mapping[str, str], address: tuple[str, int] | None) -> None:
        folder = config.home(env) / "targets"
        self._file: Path | None = None
        if address is not None and address[1] and folder.is_dir() and os.access(folder, os.W_OK):
            name = env["OTEL_SERVICE_NAME"]
            self._file = folder / f"run-{socket.gethostname()}-{os.getpid()}.json"
            target = {
                "targets": [f"{address[0]}:{address[1]}"],
                "labels": {
                    "job": name,
                    "__metrics_path__": env.get("TELEMETRY_METRICS_PATH") or "/metrics",
                },
            }
            self._text = json.dumps([target])

    def __enter__(self) -> None:
        if self._file is not None:
            self._file.write_text(self._text)

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)
