"""State that the processes of one run share: the run folder, the service name, a scrape target.

With the folder any worker can report totals for all, and a surviving worker or the parent can
export the last values of a killed one.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from telemetry.redaction import redact
from telemetry.run import command_line
from telemetry.settings import library
from telemetry.settings.stack import HOME
from telemetry.system.atomic_files import replace_file

# A worker may already have waited three seconds for its last export, and Docker kills after ten.
ADOPT_TIMEOUT_S = 2.0


class Run:
    """One run, from before its first process starts until its last one has exited.

    Args:
        command: the server's command line.
        child_env: the server's environment.
        settings: the library's settings in that environment.
    """

    def __init__(
        self, command: Sequence[str], child_env: Mapping[str, str], settings: library.Settings
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="telemetry-run-"))
        name = settings.service_name or command_line.service_name(command)
        self.variables = {"TELEMETRY_RUN_DIR": str(self.folder)}
        """Environment variables of the run's processes."""
        if not settings.service_name:
            self.variables["OTEL_SERVICE_NAME"] = name
        self._endpoint = settings.otlp_endpoint
        self._target = _write_target(command, child_env, settings, name)

    def end(self) -> None:
        """Export orphans and delete the run folder. A failure is printed, never raised."""
        if self._target is not None:
            self._target.unlink(missing_ok=True)
        if any(self.folder.glob("*.series")):
            # Imported outside of the timeout: the import alone may take that long.
            from telemetry.run.adopt import adopt

            adopted: list[bool] = []
            thread = threading.Thread(
                target=lambda: adopted.append(self._adopt(adopt)), daemon=True
            )
            thread.start()
            thread.join(ADOPT_TIMEOUT_S)
            if not any(adopted):
                print(
                    "telemetry: the last values of this run could not be exported to "
                    f"{redact(self._endpoint)}",
                    file=sys.stderr,
                )
        shutil.rmtree(self.folder, ignore_errors=True)

    def _adopt(self, adopt: Callable[[Path], bool]) -> bool:
        logging.getLogger("telemetry").disabled = True  # `end` prints the failure
        try:
            return adopt(self.folder)
        except Exception as error:
            logging.getLogger(__name__).debug("adopting failed", exc_info=error)
            return False


_own: Run | None = None
_owner = 0


def start_own_run() -> None:
    """Start a run with this process as its parent, under `opentelemetry-instrument`.

    Does nothing in a process that belongs to a run already.

    Raises:
        ConfigError: a variable has a value that can't be used.
    """
    global _own, _owner
    settings = library.Settings.from_env(os.environ)
    if settings.disabled or settings.run_dir is not None:
        return
    _own, _owner = Run(sys.orig_argv, os.environ, settings), os.getpid()
    os.environ.update(_own.variables)
    atexit.register(end_own_run)


def end_own_run() -> None:
    """End the run that `start_own_run` started. Does nothing in forked children."""
    global _own
    if _own is not None and _owner == os.getpid():
        run, _own = _own, None
        run.end()


def _write_target(
    command: Sequence[str], child_env: Mapping[str, str], settings: library.Settings, name: str
) -> Path | None:
    """Write a scrape target for the stack's Prometheus, if there is one.

    Prometheus then knows that the service should run, and notices when it is down. The file is
    named for the port, so that the next run on the port overwrites the file of a killed one.
    """
    address = command_line.address(command, child_env, Path.cwd())
    folder = HOME.read(child_env) / "targets"
    if address is None or not os.access(folder, os.W_OK) or not settings.metrics_path:
        return None
    host, port = address
    host = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host
    host = f"[{host}]" if ":" in host else host
    target = {
        "targets": [f"{host}:{port}"],
        "labels": {"job": name, "__metrics_path__": settings.metrics_path},
    }
    path = folder / f"run-{socket.gethostname()}-{port}.json"
    try:
        # No secret; Prometheus may run as another user than the app.
        replace_file(path, json.dumps([target]), 0o644)
    except OSError as error:
        print(
            f"telemetry: {path} can't be written, so Prometheus does not scrape this service: "
            f"{error}",
            file=sys.stderr,
        )
        return None
    return path
