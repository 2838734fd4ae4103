"""`telemetry up`: everything started, ready, and one signal seen through."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from telemetry import config, credentials
from telemetry.errors import TelemetryError
from telemetry.stack import control, engines, layout, ready, specs
from telemetry.stack.layout import Layout
from telemetry.stack.specs import Process

READY_TIMEOUT_S = 60.0
NEEDED = ("collector", "prometheus", "loki", "alertmanager")


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of everything that is started: with the state folder's secrets."""
    home = config.home(environ)
    secrets = credentials.ensure(home, environ)
    return {**environ, **secrets, "TELEMETRY_HOME": str(home)}


def up(environ: Mapping[str, str], source: engines.Source, *, with_services: bool) -> int:
    """Start the stack; see `telemetry up --help`.

    Args:
        environ: the environment.
        source: where engines may come from.
        with_services: also gateway, platform and proxy.

    Returns:
        The exit code: 0, since what goes wrong is raised.

    Raises:
        TelemetryError: something is missing, taken or did not get ready; nothing is left
            half-started.
    """
    console = Console(highlight=False)
    began = time.monotonic()
    place = Layout(config.home(environ))
    place.make()
    env = environment(environ)
    if control.is_running(place):
        console.print("[green]All is running already.[/green]")
        console.print(addresses(control.ask(place)["processes"]))
        return 0
    grafana = specs.find_grafana(env)
    mode = layout.alerting_mode(env, grafana is not None)
    programs = install(env, source, console)
    if grafana is not None:
        programs["grafana"] = grafana
    processes = specs.engines(place, env, programs, mode)
    if with_services:
        processes += specs.services(place, env)
    ready.check_ports(processes)
    layout.write_configs(place, env, mode)
    started = time.monotonic()
    control.start(place, processes, env)
    try:
        _wait_ready(place, processes, console)
        if not ready.see_signal(env, READY_TIMEOUT_S):
            raise TelemetryError(
                f"no signal got through to both stores within {READY_TIMEOUT_S:.0f} s",
                remedy=f"look at {place.output}/collector.log",
            )
    except BaseException:
        control.ask(place, 60.0, do="stop")
        raise
    seen = time.monotonic() - started
    console.print(addresses(control.ask(place)["processes"]))
    console.print(
        f"Ready in [bold]{time.monotonic() - began:.1f} s[/bold]; the first signal stood in "
        f"Prometheus and Loki after {seen:.1f} s."
    )
    _notes(console, env, mode, grafana, place)
    return 0


def install(
    environ: Mapping[str, str], source: engines.Source, console: Console
) -> dict[str, Path]:
    """All engines' programs; a progress bar for each one fetched or built."""
    table = engines.table()
    found: dict[str, Path] = {}
    missing = []
    for name in NEEDED:
        program = engines.find(table[name], environ) if source in ("auto", "path") else None
        if program is None:
            missing.append(name)
        else:
            found[name] = program
    if not missing:
        return found
    with Progress(
        SpinnerColumn(),
        TextColumn("[bold]{task.fields[engine]:<13}"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        for name in missing:
            task = progress.add_task("looking for it", total=None, engine=name)

            def say(text: str, task: Any = task, name: str = name) -> None:
                progress.update(task, description=text)
                if not console.is_terminal:
                    console.print(f"{name}: {text}")

            found[name] = engines.ensure(table[name], environ, source, say)
            progress.update(task, description=f"{found[name]}", total=1, completed=1)
    return found


def addresses(rows: list[dict[str, Any]]) -> Table:
    """A table of what runs and where."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "state", "address", "up", "restarts"):
        table.add_column(column, justify="right" if column in ("up", "restarts") else "left")
    for row in rows:
        alive = row["pid"] is not None
        good = alive and ready.answers(row["ready"])
        state = "[green]ready[/green]" if good else "[yellow]starting[/yellow]"
        if not alive:
            state = f"[red]down[/red] ({row['last_exit'] or 'not started'})"
        table.add_row(
            row["name"], state, row["url"], duration(row["since_s"]), str(row["restarts"])
        )
    return table


def duration(seconds: float) -> str:
    """Seconds as people say it: 45 s, 12 min, 3 h, 2 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _wait_ready(place: Layout, processes: list[Process], console: Console) -> None:
    waiting = {process.name: process for process in processes}
    deadline = time.monotonic() + READY_TIMEOUT_S
    with console.status("") as status:
        while waiting:
            status.update(f"waiting for {', '.join(waiting)}")
            for name, process in list(waiting.items()):
                if ready.answers(process.ready):
                    del waiting[name]
            if not waiting:
                return
            rows = {row["name"]: row for row in control.ask(place)["processes"]}
            failing = [name for name in waiting if rows[name]["restarts"] >= 3]
            if failing or time.monotonic() > deadline:
                name = next(iter(failing or waiting))
                why = rows[name]["last_exit"] or f"not ready within {READY_TIMEOUT_S:.0f} s"
                raise TelemetryError(
                    f"{name} does not start: {why}; {_last_line(place, name)}",
                    remedy=f"look at {place.output / name}.log",
                    exit_code=70,  # EX_SOFTWARE
                )
            time.sleep(ready.POLL_S)


def _last_line(place: Layout, name: str) -> str:
    try:
        lines = (place.output / f"{name}.log").read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "it printed nothing"


def _notes(
    console: Console, env: Mapping[str, str], mode: str, grafana: Path | None, place: Layout
) -> None:
    if grafana is None:
        console.print(
            "No Grafana here: Prometheus and Loki evaluate the alerts, Alertmanager notifies. "
            "For dashboards install Grafana, or set GRAFANA_HOME, and start again."
        )
    else:
        console.print(f"Alerts are evaluated by {mode}.")
        first = place.home / ".grafana-password-shown"
        if not first.exists():
            password = env["TELEMETRY_GRAFANA_PASSWORD"]
            console.print(f"Grafana: log in as admin, password {password} (shown this once)")
            first.touch(mode=0o600)
    console.print(f"Tokens for the pages: {place.home / credentials.FILE} (mode 0600).")


def down(environ: Mapping[str, str]) -> int:
    """Stop the stack; what was accepted is delivered or kept on disk."""
    place = Layout(config.home(environ))
    console = Console(highlight=False)
    if not control.is_running(place):
        console.print(f"Nothing runs in {place.home}.")
        return 0
    began = time.monotonic()
    with console.status("stopping: services, collector, stores"):
        control.ask(place, 90.0, do="stop")
        ready.wait(lambda: not control.is_running(place), 10.0)
    console.print(f"Stopped in {time.monotonic() - began:.1f} s.")
    return 0


def status(environ: Mapping[str, str]) -> int:
    """Show what runs. Exit code 0 where all is well, 1 where something is down."""
    place = Layout(config.home(environ))
    console = Console(highlight=False)
    rows = control.ask(place)["processes"]
    console.print(addresses(rows))
    grafana = any(row["name"] == "grafana" for row in rows)
    console.print(f"Alerts are evaluated by {'grafana' if grafana else 'prometheus'}.")
    return 0 if all(row["pid"] and ready.answers(row["ready"]) for row in rows) else 1


def restart(environ: Mapping[str, str], names: list[str]) -> int:
    """Restart the named processes, all if none is named."""
    place = Layout(config.home(environ))
    console = Console(highlight=False)
    rows = control.ask(place)["processes"]
    for name in names or [row["name"] for row in rows]:
        after = control.ask(place, 60.0, do="restart", name=name)["processes"]
        row = next(row for row in after if row["name"] == name)
        if not ready.wait(lambda url=row["ready"]: ready.answers(url), READY_TIMEOUT_S):  # type: ignore[misc]
            raise TelemetryError(
                f"{name} is not ready {READY_TIMEOUT_S:.0f} s after its restart",
                remedy=f"look at {place.output / name}.log",
                exit_code=70,
            )
        console.print(f"{name} is ready again.")
    return 0


def show_logs(environ: Mapping[str, str], name: str, follow: bool) -> int:
    """Print what processes have printed, with ``follow`` as it comes."""
    place = Layout(config.home(environ))
    pattern = f"{name}.log" if name else "*.log"
    paths = sorted(place.output.glob(pattern))
    if not paths:
        known = ", ".join(sorted(p.stem for p in place.output.glob("*.log"))) or "nothing yet"
        raise TelemetryError(
            f"there is no output of {name or 'anything'} in {place.output}",
            remedy=f"there is: {known}",
        )
    tail = ["tail", "-n", "200", *(["-F"] if follow else []), *map(str, paths)]
    os.execvp("tail", tail)
