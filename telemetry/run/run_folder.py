"""What the processes of one run share: a folder for their counts, a name, a place to look.

The folder lets any worker answer `/metrics` for all, and a survivor or the parent export the
last values of one that was killed.
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
from telemetry.settings import stack as stack_settings

# A worker has waited three seconds for its own last export, and Docker kills after ten.
ADOPT_TIMEOUT_S = 2.0


class Shared:
    """Made before the first process starts, ended when the last has exited.

    Args:
        command: the server's command line.
        environ: the environment it will have.
        settings: what that says.
    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], settings: library.Settings
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="telemetry-run-"))
        name = settings.service_name or command_line.service_name(command)
        self.variables = {"TELEMETRY_RUN_DIR": str(self.folder)}
        """What the processes need in their environment."""
        if not settings.service_name:
            self.variables["OTEL_SERVICE_NAME"] = name
        self._endpoint = settings.otlp_endpoint
        self._target = _write_target(command, environ, settings, name)

    def end(self) -> None:
        """Export what killed workers left, and clear away. A failure is told, never raised."""
        if self._target is not None:
            self._target.unlink(missing_ok=True)
        if any(self.folder.glob("*.series")):
            # Not against the clock: a cold import takes as long as that.
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
        logging.getLogger("telemetry").disabled = True  # the line above says it all
        try:
            return adopt(self.folder)
        except Exception as error:
            logging.getLogger(__name__).debug("adopting failed", exc_info=error)
            return False


_own: Shared | None = None
_owner = 0


def begin_own() -> None:
    """Share what this process, started by `opentelemetry-instrument`, and its workers do: it is
    the parent itself. Does nothing in a process that has a parent of ours.

    Raises:
        ConfigError: a variable has a value that can't be used.
    """
    global _own, _owner
    settings = library.Settings.from_env()
    if settings.disabled or settings.run_dir is not None:
        return
    _own, _owner = Shared(sys.orig_argv, os.environ, settings), os.getpid()
    os.environ.update(_own.variables)
    atexit.register(end_own)


def end_own() -> None:
    """End what `begin_own` began, in the process that did; not in its forks."""
    global _own
    if _own is not None and _owner == os.getpid():
        shared, _own = _own, None
        shared.end()


def _write_target(
    command: Sequence[str], environ: Mapping[str, str], settings: library.Settings, name: str
) -> Path | None:
    """Tell the stack's Prometheus, where there is one, that this service is meant to run, so
    that it notices when it doesn't. Named for the port, so that the next run there takes over
    what a killed one left."""
    address = command_line.address(command, environ, Path.cwd())
    folder = stack_settings.home(environ) / "targets"
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
    # Whole or not at all: Prometheus is watching the folder.
    fresh = path.with_suffix(".new")
    try:
        fresh.write_text(json.dumps([target]))
        fresh.replace(path)
    except OSError as error:
        print(f"telemetry: {path} can't be written: {error}", file=sys.stderr)
        return None
    return path
