"""Why an app could not be loaded, told by the process that tried to the parent of the run."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType

STARTUP_FAILURE = 3
"""uvicorn's exit code for an app that fails before it serves; it doesn't try again then."""

_FILE = "failure.json"
_IMPORT_MACHINERY = ("<frozen importlib", f"importlib{os.sep}__init__.py")


class Failed(SystemExit):
    """Ends a process whose app could not be loaded, which has been told."""


def told(folder: Path) -> tuple[str, str, int] | None:
    """Message, remedy and exit code of the last failure in this run folder, if any."""
    try:
        message, remedy, exit_code = json.loads((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    return message, remedy, exit_code


def not_found(app: str, error: SystemExit) -> None:
    """The server has looked for ``app`` and said what is missing."""
    cause = error.__context__
    module = app.partition(":")[0]
    _tell(
        f"{app} can't be served: {cause}" if cause else f"{app} can't be served",
        f"name an attribute that {module} has, such as {module}:app",
        66,  # EX_NOINPUT
    )


def not_loaded(app: str, error: Exception) -> Failed:
    """Loading ``app`` raised: show where in the app, without the frames that lead there.
    Gives what to raise in its stead."""
    tb = error.__traceback__
    while tb is not None and not _of_app(tb):
        tb = tb.tb_next
    if tb is None and not isinstance(error, SyntaxError):
        tb = error.__traceback__  # not the app's doing: a certificate that isn't there, …
    traceback.print_exception(type(error), error, tb)
    sys.stderr.flush()
    _tell(
        f"{app} can't be loaded: {type(error).__name__}: {error}",
        "the traceback above says where",
        70,  # EX_SOFTWARE
    )
    return Failed(STARTUP_FAILURE)


def none() -> None:
    """The app has been loaded: what failed before (under ``--reload``) is mended."""
    folder = os.environ.get("TELEMETRY_RUN_DIR")
    if folder:
        (Path(folder) / _FILE).unlink(missing_ok=True)


def _tell(message: str, remedy: str, exit_code: int) -> None:
    folder = os.environ.get("TELEMETRY_RUN_DIR")
    if folder:
        # Several workers may fail at once: whole or not at all.
        fresh = Path(folder) / f"{_FILE}.{os.getpid()}"
        with contextlib.suppress(OSError):
            fresh.write_text(json.dumps([message, remedy, exit_code]))
            fresh.replace(Path(folder) / _FILE)


def _of_app(tb: TracebackType) -> bool:
    code, package = tb.tb_frame.f_code, tb.tb_frame.f_globals.get("__name__", "")
    machinery = any(part in code.co_filename for part in _IMPORT_MACHINERY)
    return not machinery and package.partition(".")[0] not in ("uvicorn", "telemetry", "contextlib")
