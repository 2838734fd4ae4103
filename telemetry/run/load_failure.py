"""Report why an app could not be loaded, from the process that tried to the parent of the run."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType

from telemetry.system.atomic_files import replace_file

STARTUP_FAILURE = 3
"""uvicorn's exit code for an app that fails to start; uvicorn does not restart it."""

_FILE = "failure.json"
_IMPORT_MACHINERY = ("<frozen importlib", f"importlib{os.sep}__init__.py")


class AppLoadFailed(SystemExit):
    """Ends a process that could not load its app, after the failure has been reported."""


def read(folder: Path) -> tuple[str, str, int] | None:
    """Read message, remedy and exit code of the last failure in this run folder, if any."""
    try:
        message, remedy, exit_code = json.loads((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    return message, remedy, exit_code


def report_not_found(app: str, error: SystemExit) -> None:
    """Report that the server has not found ``app``, with its reason."""
    cause = error.__context__
    module = app.partition(":")[0]
    _write(
        f"{app} can't be served: {cause}" if cause else f"{app} can't be served",
        f"name an attribute that {module} has, such as {module}:app",
        66,  # EX_NOINPUT
    )


def report_not_loaded(app: str, error: Exception) -> AppLoadFailed:
    """Report that loading ``app`` raised; print the traceback without the server's frames.

    Returns:
        The exception to raise instead.
    """
    tb = error.__traceback__
    while tb is not None and not _of_app(tb):
        tb = tb.tb_next
    if tb is None and not isinstance(error, SyntaxError):
        tb = error.__traceback__  # not raised by the app: a missing certificate, …
    traceback.print_exception(type(error), error, tb)
    sys.stderr.flush()
    _write(
        f"{app} can't be loaded: {type(error).__name__}: {error}",
        "fix the error in the traceback above",
        70,  # EX_SOFTWARE
    )
    return AppLoadFailed(STARTUP_FAILURE)


def clear() -> None:
    """Delete an earlier failure: the app has been loaded, e.g. after a fix under ``--reload``."""
    folder = os.environ.get("TELEMETRY_RUN_DIR")
    if folder:
        (Path(folder) / _FILE).unlink(missing_ok=True)


def _write(message: str, remedy: str, exit_code: int) -> None:
    folder = os.environ.get("TELEMETRY_RUN_DIR")
    if folder:
        with contextlib.suppress(OSError):  # several workers may fail at the same time
            replace_file(Path(folder) / _FILE, json.dumps([message, remedy, exit_code]))


def _of_app(tb: TracebackType) -> bool:
    code, package = tb.tb_frame.f_code, tb.tb_frame.f_globals.get("__name__", "")
    machinery = any(part in code.co_filename for part in _IMPORT_MACHINERY)
    return not machinery and package.partition(".")[0] not in ("uvicorn", "telemetry", "contextlib")
