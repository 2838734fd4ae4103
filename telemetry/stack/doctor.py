"""`telemetry doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from telemetry.alerting import AlertSettings
from telemetry.errors import ConfigError, TelemetryError
from telemetry.settings import credentials, library
from telemetry.settings.stack import StackSettings
from telemetry.stack import configuration, readiness, supervisor_client, terminal
from telemetry.stack import processes as stack_processes
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import ensure, grafana
from telemetry.stack.state_folder import StateFolder
from telemetry.system import json_http

State = Literal["well", "note", "wrong"]
_MARKS = {"well": "[green]✓[/green]", "note": "[yellow]![/yellow]", "wrong": "[red]✗[/red]"}
ROUND_TRIP_S = 15.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        about: what was looked at.
        state: ``well``; ``note`` where something is missing that not everybody needs; ``wrong``.
        text: what was found.
        remedy: what to do, "" where nothing is to be done.
    """

    about: str
    state: State
    text: str
    remedy: str = ""


Check = Callable[[StateFolder, StackSettings], Iterator[Finding]]


def doctor() -> int:
    """Look at everything and print it. Exit code 0 where nothing is wrong, else 1."""
    console = Console(highlight=False, soft_wrap=True)
    wrong = 0
    for finding in examine(os.environ):
        wrong += finding.state == "wrong"
        console.print(f"{_MARKS[finding.state]} [bold]{finding.about}[/bold]: ", end="")
        console.print(finding.text, markup=False)
        if finding.remedy and finding.state != "well":
            console.print(f"    -> {finding.remedy}", markup=False)
    if wrong:
        console.print(f"[red]{wrong} {'thing is' if wrong == 1 else 'things are'} wrong.[/red]")
    else:
        console.print("[green]Nothing is wrong.[/green]")
    return 1 if wrong else 0


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """All findings, in the order in which one thing rests on another."""
    usable = dict(environ)
    while True:
        try:
            settings = StackSettings.from_env(usable)
            break
        except ConfigError as error:
            # The rest is looked at with the default.
            yield Finding("settings", "wrong", error.message, error.remedy)
            del usable[error.key]
    folder = StateFolder(settings.home)
    checks: dict[str, Check] = {
        "state folder": _state_folder,
        "settings": _settings,
        "engines": _engines,
        "docker": _docker,
        "ports": _ports,
        "processes": _processes,
        "alerts": _alerts,
        "scrapes": _scrapes,
        "collector": _queues,
        "round trip": _round_trip,
    }
    for about, check in checks.items():
        try:
            for finding in check(folder, settings):
                if finding.about != "settings" or finding.state != "well" or usable == environ:
                    yield finding
        except TelemetryError as error:
            yield Finding(about, "wrong", error.message, error.remedy)


def _state_folder(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    folder.make()
    free_gb = shutil.disk_usage(folder.home).free / 2**30
    needed = settings.retention_gb
    if free_gb < needed:
        yield Finding(
            "state folder",
            "note",
            f"{folder.home} has {free_gb:.1f} GB free, and the stores may grow to {needed} GB",
            "set TELEMETRY_RETENTION_GB lower, or TELEMETRY_HOME to a larger disk",
        )
    else:
        yield Finding("state folder", "well", f"{folder.home}, {free_gb:.0f} GB free")
    secrets = folder.home / credentials.FILE
    if secrets.exists() and stat.S_IMODE(secrets.stat().st_mode) & 0o077:
        yield Finding("secrets", "wrong", f"others can read {secrets}", f"chmod 600 {secrets}")


def _settings(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    AlertSettings.from_env(settings.with_secrets().child_env)
    app = library.Settings.from_env(settings.child_env).otlp[""]
    yield Finding("settings", "well", "all can be used")
    ours = settings.urls["otlp_http"]
    if app.given and app.address != ours:
        yield Finding(
            "settings",
            "note",
            f"apps started from here send to {app.address}, not to this stack's {ours}",
            "unset OTEL_EXPORTER_OTLP_ENDPOINT if that is not meant",
        )


def _engines(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    missing = []
    table = engines.table()
    for name in engines.needed():
        program = ensure.find(table[name], settings)
        if program is None:
            missing.append(name)
            continue
        version = ensure.pinned(table[name], program, settings)
        yield Finding("engine", "well", f"{name} {version}, {program}")
    if missing:
        go = _go_version(settings)
        yield Finding(
            "engine",
            "note" if go else "wrong",
            f"{', '.join(missing)} not here yet",
            f"`telemetry up` fetches them, or builds them with {go} (20 minutes, once)"
            if go
            else "`telemetry up` fetches them where the internet can be reached; else install Go "
            "1.26 or later",
        )
    if not settings.grafana:
        yield Finding("grafana", "well", "off, by TELEMETRY_GRAFANA")
        return
    found = grafana.find(settings)
    if found is None:
        yield Finding(
            "grafana", "note", "none here: no dashboards", "install Grafana, or set GRAFANA_HOME"
        )
    else:
        yield Finding("grafana", "well", str(found))


def _go_version(settings: StackSettings) -> str:
    go = shutil.which("go", path=settings.search_path)
    if go is None:
        return ""
    done = subprocess.run([go, "version"], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()[2:3])


def _docker(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    from telemetry.system.docker_engine import Engine, EngineAbsent

    try:
        with Engine(settings.child_env).asked() as client:
            version = client.version()["Version"]
    except EngineAbsent as error:
        remedy = f"{error.remedy}; only containers of the platform need it"
        if isinstance(error.__cause__, PermissionError):
            remedy = "`sudo usermod -aG docker $USER`, and log in again"
        yield Finding("docker", "note", error.message, remedy)
    else:
        yield Finding("docker", "well", f"Engine {version}")


def _ports(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    if supervisor_client.is_running(folder):
        return  # they are taken, by us
    programs = {name: Path(name) for name in engines.needed()}
    processes = stack_processes.engines(
        folder, settings, programs, "prometheus"
    ) + stack_processes.services(folder, settings)
    well = True
    for process in processes:
        try:
            readiness.check_ports([process], settings)
        except TelemetryError as error:
            well = False
            yield Finding("port", "wrong", error.message, error.remedy)
    if well:
        yield Finding("ports", "well", "all free")


def _rows(folder: StateFolder) -> list[dict[str, Any]]:
    if not supervisor_client.is_running(folder):
        return []
    rows: list[dict[str, Any]] = supervisor_client.ask(folder)["processes"]
    return rows


def _processes(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    rows = _rows(folder)
    if not rows:
        yield Finding("processes", "note", "nothing runs", "`telemetry up` starts the stack")
    for row in rows:
        name, again = row["name"], row["restarts"]
        found = readiness.condition(row["ready"]) if row["pid"] else ""
        if not found:
            why = row["last_exit"] or "it does not answer"
            yield Finding(
                name,
                "wrong",
                f"down: {why}; {terminal.complaint(folder, name)}",
                f"`telemetry logs {name}`",
            )
        elif found != "ready":
            yield Finding(name, "note", f"unhealthy: {terminal.trouble(found)}")
        elif again:
            yield Finding(
                name,
                "note",
                f"ready, started again {again} times; last: {row['last_exit']}",
                f"`telemetry logs {name}`",
            )
        else:
            yield Finding(name, "well", f"ready for {terminal.duration(row['since_s'])}")


def _alerts(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    from telemetry.alerting import rules_api

    names = {row["name"] for row in _rows(folder)}
    if not names:
        return
    mode = configuration.alerting_mode(settings, "grafana" in names)
    states = rules_api.rule_states(settings.with_secrets())
    failing = [state for state in states if state.error]
    for state in failing:
        yield Finding("alerts", "wrong", f"{state.name} can't be evaluated: {state.error}")
    firing = sorted({state.name for state in states if state.state == "firing"})
    if firing:
        yield Finding("alerts", "note", f"firing: {', '.join(firing)}", "`telemetry alerts list`")
    if not failing:
        yield Finding("alerts", "well", f"{len(states)} rules, evaluated by {mode}")


def _scrapes(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    if not _rows(folder):
        return
    try:
        answer = json_http.get_json(f"{settings.urls['prometheus']}/api/v1/targets?state=active")
    except OSError:
        return  # that it is down was said above
    targets = answer["data"]["activeTargets"]
    down = [target for target in targets if target["health"] == "down"]
    for target in down:
        yield Finding(
            "scrape",
            "wrong",
            f"{target['labels']['job']}: {target['lastError']}",
            "is it running? `telemetry run` and `up` list what is meant to run",
        )
    if not down:
        yield Finding("scrapes", "well", f"all {len(targets)} answer")


def _queues(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    if not _rows(folder):
        return
    sizes = readiness.collector_queues(f"{settings.urls['collector_metrics']}/metrics")
    if sizes is not None and sum(sizes) > 0:
        yield Finding(
            "collector",
            "note",
            f"{sum(sizes):.0f} items wait to be delivered",
            "that is normal for a moment; if it grows, a store is down or too slow",
        )
    elif sizes is not None:
        yield Finding("collector", "well", "its queues are empty")


def _round_trip(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    if not _rows(folder):
        return
    began = time.monotonic()
    try:
        seen = readiness.see_signal(settings, ROUND_TRIP_S)
    except OSError as error:
        yield Finding(
            "round trip",
            "wrong",
            f"the collector takes nothing: it {error}",
            "`telemetry logs collector`",
        )
        return
    if seen:
        took = time.monotonic() - began
        yield Finding(
            "round trip", "well", f"a metric and a log line were there after {took:.2f} s"
        )
    else:
        yield Finding(
            "round trip",
            "wrong",
            f"a metric and a log line were sent, and not found within {ROUND_TRIP_S:.0f} s",
            "`telemetry logs collector` says where they are stuck",
        )
