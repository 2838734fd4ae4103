"""Show the stack in a terminal: progress bars, the table of processes, and their errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from telemetry.settings.stack import StackSettings
from telemetry.stack import readiness, supervisor_client
from telemetry.stack.engines.engine import Report
from telemetry.stack.state_folder import STARTED, StateFolder
from telemetry.system.escapes import escape
from telemetry.system.terminal import Terminal, plain_table, styled

_LAST_LINES = 40
_ERROR = re.compile(r"level=(error|fatal)|\b(error|failed|fatal|cannot|invalid)\b", re.IGNORECASE)


class ProgressBars:
    """Progress bars of the engines that are fetched or built; plain lines without a terminal."""

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[engine]:<12}", style="bold", markup=False),
            BarColumn(24),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> ProgressBars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def reporter(self, engine: str) -> Report:
        """Return a callback for the engine's progress; its bar appears at the first call."""
        task: list[TaskID] = []

        def report(text: str, done: float | None = None) -> None:
            if not self._console.is_terminal:
                if not done:  # skip the steps of a download
                    self._console.print(f"{engine}: {text}")
                return
            if not task:
                task.append(self._progress.add_task("", total=None, engine=engine))
            self._progress.update(
                task[0],
                description=escape(text),
                total=None if done is None else 1.0,
                completed=done or 0.0,
            )

        return report


def addresses(rows: list[dict[str, Any]], tls: Path) -> Group:
    """Make the table of processes, followed by the problems and notes of each.

    Args:
        rows: the supervisor's rows.
        tls: folder of the stack's certificates.
    """
    columns = ("", "state", "address", "version", "up", "restarts")
    table = plain_table(*columns, numbers=("up", "restarts"), folded=("version",))
    remarks = []
    for row in rows:
        state, remark = _state(row, tls)
        if remark:
            remarks.append(styled(f"{row['name']}: {remark}"))
        table.add_row(
            row["name"],
            state,
            row["url"],
            row["version"],
            duration(row["since_s"]),
            str(row["restarts"]),
        )
    return Group(table, *remarks)


def _state(row: Mapping[str, Any], tls: Path) -> tuple[Text, str]:
    if row["pid"] is None:
        return styled(("down", "red")), row["last_exit"] or "not started"
    found = readiness.condition(row["ready"], tls)
    if found == "ready":
        note = readiness.note(row["ready"]) if row["service"] else ""
        return styled(("ready", "green")), note
    if found and row["service"]:
        return styled(("unhealthy", "yellow")), format_problems(found)
    return styled(("starting", "yellow")), ""


def format_problems(answer: str) -> str:
    """Format the problems in the answer of a service's health address."""
    try:
        parts = json.loads(answer)
        return "; ".join(f"{key}: {value}" for key, value in parts.items() if key != "status")
    except (ValueError, AttributeError):
        return answer


def is_healthy(row: Mapping[str, Any], tls: Path) -> bool:
    """Return whether a process runs and reports that it is ready."""
    return row["pid"] is not None and readiness.condition(row["ready"], tls) == "ready"


def is_up(row: Mapping[str, Any], tls: Path) -> bool:
    """Return whether an engine is ready, or a service answers at all."""
    found = readiness.condition(row["ready"], tls)
    return bool(found) if row["service"] else found == "ready"


def duration(seconds: float) -> str:
    """Format seconds with the largest suitable unit: 45 s, 12 min, 3 h, 2 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def find_error(folder: StateFolder, name: str) -> str:
    """Find the line that explains why a process failed, in its last run that printed anything.

    This is our own ``error:`` line; else the first of the last lines that mentions an error,
    because stack traces and consequences follow it; else the last line.
    """
    try:
        text = (folder.output / f"{name}.log").read_text(errors="replace")
    except OSError:
        text = ""
    # Each part begins with the rest of the line that marks the start of the run.
    runs = [part.partition("\n")[2].strip() for part in f"\n{text}".split(f"\n{STARTED}")]
    lines = next((run.splitlines() for run in reversed(runs) if run), [])
    if not lines:
        return "it printed nothing"
    last = lines[-_LAST_LINES:]
    own = (line.removeprefix("error: ") for line in last if line.startswith("error: "))
    found = next(own, None) or next(filter(_ERROR.search, last), last[-1])
    return found.strip()[:400]


def status(settings: StackSettings) -> int:
    """Show the processes.

    Returns:
        The exit code: 0 if all are ready, else 1.
    """
    folder = StateFolder(settings.home)
    console = Terminal()
    rows = supervisor_client.ask(folder)["processes"]
    console.print(addresses(rows, settings.tls))
    # Alertmanager runs only if Prometheus is the evaluator.
    alertmanager = any(row["name"] == "alertmanager" for row in rows)
    console.print(f"Alerts are evaluated by {'prometheus' if alertmanager else 'grafana'}.")
    return 0 if all(is_healthy(row, settings.tls) for row in rows) else 1
