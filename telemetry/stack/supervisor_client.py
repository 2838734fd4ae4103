"""Start the supervisor of a state folder, send it requests, and clean up after it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from telemetry.errors import TelemetryError
from telemetry.stack import readiness
from telemetry.stack.processes import Process
from telemetry.stack.state_folder import StateFolder
from telemetry.system import file_locks, own_package
from telemetry.system.atomic_files import replace_file

if TYPE_CHECKING:
    import psutil

START_TIMEOUT_S = 10.0
REAP_S = 15.0
STOP_TIMEOUT_S = 90.0
EXIT_TIMEOUT_S = 10.0
LONGEST_SOCKET = 104


class NotRunning(TelemetryError):
    """No supervisor runs in the state folder."""

    def __init__(self, folder: StateFolder) -> None:
        super().__init__(
            f"no stack runs in {folder.home}", remedy="start it with `telemetry up`", exit_code=3
        )


def is_running(folder: StateFolder) -> bool:
    """Return whether a supervisor runs; the kernel releases the lock of a dead one."""
    return file_locks.is_locked(folder.lock)


def ask(folder: StateFolder, timeout_s: float = 10.0, **request: Any) -> dict[str, Any]:
    """Send a request to the supervisor, e.g. ``ask(folder, do="restart", name="loki")``.

    Raises:
        NotRunning: no supervisor runs.
        TelemetryError: the supervisor refused or did not answer.
    """
    if not is_running(folder):
        raise NotRunning(folder)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            _connect(connection, folder)
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(connection.makefile().readline())
    except (OSError, ValueError) as error:
        raise TelemetryError(
            f"the supervisor in {folder.home} does not answer: {error}",
            remedy=f"look at {folder.output / 'supervisor.log'}",
        ) from error
    if "error" in answer:
        raise TelemetryError(answer["error"], remedy="`telemetry status` lists the names")
    return answer


@contextlib.contextmanager
def exclusive(folder: StateFolder) -> Iterator[None]:
    """Hold the lock for starting or stopping the stack.

    Raises:
        TelemetryError: another command holds it.
    """
    try:
        lock = file_locks.hold(folder.home / "up.lock")
    except BlockingIOError as error:
        raise TelemetryError(
            f"another `telemetry up` or `down` is running in {folder.home}",
            remedy="wait until it ends, or set TELEMETRY_HOME to another folder",
            exit_code=75,
        ) from error
    try:
        yield
    finally:
        os.close(lock)


def start(folder: StateFolder, processes: list[Process], child_env: Mapping[str, str]) -> None:
    """Start a supervisor with these processes and wait until it answers.

    Raises:
        TelemetryError: it ended or did not answer in time.
    """
    rows = [process.to_json() for process in processes]
    replace_file(folder.processes, json.dumps(rows, indent=1))  # contains Grafana's password
    folder.socket.unlink(missing_ok=True)
    with open(folder.output / "supervisor.log", "a") as output:
        child = subprocess.Popen(
            own_package.command("telemetry.stack.supervisor", str(folder.home)),
            env=dict(child_env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        readiness.wait(lambda: folder.socket.exists() or child.poll() is not None, START_TIMEOUT_S)
    except BaseException:
        child.terminate()
        child.wait()
        raise
    if not folder.socket.exists():
        child.kill()
        code = child.wait()
        raise TelemetryError(
            f"the supervisor did not start (exit code {code})",
            remedy=f"look at {folder.output / 'supervisor.log'}",
            exit_code=70,
        )
    child.returncode = 0  # It outlives this process: Popen must not warn that it still runs.


def stop(folder: StateFolder) -> None:
    """Have the supervisor stop its processes, and wait until it has exited itself.

    Raises:
        TelemetryError: it did not answer.
    """
    ask(folder, STOP_TIMEOUT_S, do="stop")
    readiness.wait(lambda: not is_running(folder), EXIT_TIMEOUT_S)


def reap(folder: StateFolder) -> list[str]:
    """Stop the processes that a killed supervisor has left running.

    Returns:
        The names of the processes that were still running.
    """
    import psutil

    try:
        rows: dict[str, int] = json.loads(folder.pids.read_text())
        names = {group: name for name, group in rows.items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return []  # no file, or a partial one from a full disk
    left, leaving = _processes(folder, names)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(list(left), timeout=REAP_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs([*alive, *leaving], timeout=REAP_S)  # afterwards their ports are free
    folder.pids.unlink(missing_ok=True)
    return sorted(set(left.values()))


def _processes(
    folder: StateFolder, names: Mapping[int, str]
) -> tuple[dict[psutil.Process, str], list[psutil.Process]]:
    """Find the running processes of these groups, and those that are exiting.

    Workers whose parent is dead are found too. The kernel may have given a group's number to
    another process since, so the state folder in the environment must be ours.
    """
    import psutil

    found: dict[psutil.Process, str] = {}
    leaving: list[psutil.Process] = []
    others = {group: name for group, name in names.items() if group != os.getpgrp()}
    for process in psutil.process_iter():
        try:
            name = others.get(os.getpgid(process.pid))
            if not name:
                continue
            environ = process.environ()
            if environ.get("TELEMETRY_HOME") == str(folder.home):
                found[process] = name
            elif not environ and process.status() != psutil.STATUS_ZOMBIE:
                # The kernel has freed its memory, but not yet its ports: that takes an engine
                # about 25 ms. It may not be ours, so it gets no signal; `reap` waits for it.
                leaving.append(process)
        except (psutil.Error, OSError):
            continue
    return found, leaving


def _connect(connection: socket.socket, folder: StateFolder) -> None:
    path = str(folder.socket)
    if len(path.encode()) < LONGEST_SOCKET:
        connection.connect(path)
        return
    # A socket's path may have at most 107 bytes; the path through /proc is shorter.
    opened = os.open(folder.home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{opened}/{folder.socket.name}")
    finally:
        os.close(opened)
