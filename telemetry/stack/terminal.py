"""What people see of the stack in a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from telemetry.settings.stack import StackSettings
from telemetry.stack import readiness, supervisor_client
from telemetry.stack.engines.engine import Say
from telemetry.stack.state_folder import STARTED, StateFolder
from telemetry.system.terminal import plain_table

_LAST_LINES = 40
_TROUBLE = re.compile(r"level=(error|fatal)|\b(error|failed|fatal|cannot|invalid)\b", re.IGNORECASE)


class Work:
    """Progress bars, one an engine that is fetched or built; plain lines where no terminal is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[engine]:<12}"),
            BarColumn(24),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Work:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def on(self, engine: str) -> Say:
        """Where work on this engine reports; its bar appears with its first word."""
        task: list[TaskID] = []

        def say(text: str, done: float | None = None) -> None:
            if not self._console.is_terminal:
                if not done:  # not each step of a download
                    self._console.print(f"{engine}: {text}", soft_wrap=True)
                return
            if not task:
                task.append(self._progress.add_task("", total=None, engine=engine))
            self._progress.update(
                task[0],
                description=text,
                total=None if done is None else 1.0,
                completed=done or 0.0,
            )

        return say


def addresses(rows: list[dict[str, Any]]) -> Group:
    """A table of what runs and where; below it what is wrong with those that are unhealthy, and
    what the others have to say."""
    columns = ("", "state", "address", "version", "up", "restarts")
    table = plain_table(*columns, numbers=("up", "restarts"), whole=True)
    remarks = []
    for row in rows:
        state, remark = _state(row)
        if remark:
            remarks.append(Text(f"{row['name']}: {remark}"))
        table.add_row(
            row["name"],
            state,
            row["url"],
            row["version"],
            duration(row["since_s"]),
            str(row["restarts"]),
        )
    return Group(table, *remarks)


def _state(row: Mapping[str, Any]) -> tuple[str, str]:
    if row["pid"] is None:
        return "[red]down[/red]", row["last_exit"] or "not started"
    found = readiness.condition(row["ready"])
    if found == "ready":
        return "[green]ready[/green]", readiness.note(row["ready"]) if row["service"] else ""
    if found and row["service"]:
        return "[yellow]unhealthy[/yellow]", trouble(found)
    return "[yellow]starting[/yellow]", ""


def trouble(answer: str) -> str:
    """What a service's health address says is wrong, for people."""
    try:
        told = json.loads(answer)
        return "; ".join(f"{key}: {value}" for key, value in told.items() if key != "status")
    except (ValueError, AttributeError):
        return answer


def is_well(row: Mapping[str, Any]) -> bool:
    """Whether a process runs and says that all is well."""
    return row["pid"] is not None and readiness.condition(row["ready"]) == "ready"


def is_up(row: Mapping[str, Any]) -> bool:
    """Whether an engine is ready, or a service answers at all."""
    found = readiness.condition(row["ready"])
    return bool(found) if row["service"] else found == "ready"


def duration(seconds: float) -> str:
    """Seconds as people say it: 45 s, 12 min, 3 h, 2 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def complaint(folder: StateFolder, name: str) -> str:
    """What a process printed of its trouble in its last run that printed anything: our own word of
    an error, or the first of its last lines that speaks of one, since stack traces and
    consequences follow it; else the last."""
    try:
        text = (folder.output / f"{name}.log").read_text(errors="replace")
    except OSError:
        text = ""
    # Each part begins with the rest of the line that says when it was started.
    runs = [part.partition("\n")[2].strip() for part in f"\n{text}".split(f"\n{STARTED}")]
    lines = next((run.splitlines() for run in reversed(runs) if run), [])
    if not lines:
        return "it printed nothing"
    last = lines[-_LAST_LINES:]
    own = (line.removeprefix("error: ") for line in last if line.startswith("error: "))
    found = next(own, None) or next(filter(_TROUBLE.search, last), last[-1])
    return found.strip()[:400]


def status(settings: StackSettings) -> int:
    """Show what runs. Exit code 0 where all is well, 1 where something is not."""
    folder = StateFolder(settings.home)
    console = Console(highlight=False)
    rows = supervisor_client.ask(folder)["processes"]
    console.print(addresses(rows))
    # An Alertmanager runs only where Prometheus evaluates: it passes the alerts on.
    alertmanager = any(row["name"] == "alertmanager" for row in rows)
    console.print(f"Alerts are evaluated by {'prometheus' if alertmanager else 'grafana'}.")
    return 0 if all(is_well(row) for row in rows) else 1
