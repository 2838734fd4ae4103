"""Talking to the supervisor of a state folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from telemetry.errors import TelemetryError
from telemetry.stack import ready
from telemetry.stack.layout import Layout
from telemetry.stack.specs import Process


class NotRunning(TelemetryError):
    """No supervisor has this state folder."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(
            f"nothing runs in {layout.home}", remedy="start it with `telemetry up`", exit_code=3
        )


def is_running(layout: Layout) -> bool:
    """Whether a supervisor lives. The lock is the kernel's: a dead one's is not left behind."""
    try:
        with open(layout.lock, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def ask(layout: Layout, timeout_s: float = 10.0, **request: Any) -> dict[str, Any]:
    """One request to the supervisor, e.g. ``ask(layout, do="restart", name="loki")``.

    Raises:
        NotRunning: there is none.
        TelemetryError: it refused or did not answer.
    """
    if not is_running(layout):
        raise NotRunning(layout)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(_short(layout))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(connection.makefile().readline())
    except (OSError, ValueError) as error:
        raise TelemetryError(
            f"the supervisor in {layout.home} does not answer: {error}",
            remedy=f"look at {layout.output / 'supervisor.log'}",
        ) from error
    if "error" in answer:
        raise TelemetryError(answer["error"], remedy="`telemetry status` lists the names")
    return answer


def start(layout: Layout, processes: list[Process], environ: Mapping[str, str]) -> None:
    """Start a supervisor with these processes and wait until it answers.

    Raises:
        TelemetryError: it ended at once.
    """
    rows = [process.to_json() for process in processes]
    (layout.home / "processes.json").write_text(json.dumps(rows, indent=1))
    with open(layout.output / "supervisor.log", "a") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "telemetry.stack.supervisor", str(layout.home)],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    ready.wait(lambda: layout.socket.exists() or child.poll() is not None, 10.0)
    if child.poll() is not None:
        raise TelemetryError(
            f"the supervisor ended with exit code {child.returncode}",
            remedy=f"look at {layout.output / 'supervisor.log'}",
        )


def _short(layout: Layout) -> str:
    # A socket's path may have 107 bytes; a relative one by way of /proc gets below that.
    path = str(layout.socket)
    if len(path.encode()) < 104:
        return path
    fd = os.open(layout.home, os.O_RDONLY | os.O_DIRECTORY)
    return f"/proc/self/fd/{fd}/{layout.socket.name}"
