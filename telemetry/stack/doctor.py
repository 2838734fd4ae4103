"""The command `telemetry doctor`: find problems and say how to fix them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from telemetry.alerting import AlertSettings
from telemetry.errors import ConfigError, TelemetryError
from telemetry.settings import library
from telemetry.settings.stack import StackSettings
from telemetry.stack import configuration, doors, readiness, supervisor_client, terminal
from telemetry.stack import processes as stack_processes
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import ensure, grafana
from telemetry.stack.findings import Check, Finding
from telemetry.stack.state_folder import StateFolder
from telemetry.system import json_http
from telemetry.system.terminal import Terminal, styled

_MARKS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "problem": ("✗", "red")}
ROUND_TRIP_S = 15.0


def doctor() -> int:
    """Run all checks and print their findings.

    Returns:
        The exit code: 0 if there is no problem, else 1.
    """
    console = Terminal()
    problems = 0
    for finding in examine(os.environ):
        problems += finding.state == "problem"
        mark, about = _MARKS[finding.state], (finding.about, "bold")
        console.print(styled(mark, " ", about, ": ", finding.text), soft_wrap=True)
        if finding.remedy and finding.state != "ok":
            console.print(styled(f"    -> {finding.remedy}"), soft_wrap=True)
    if problems:
        console.print(f"{problems} problem{'s' if problems > 1 else ''} found.", style="red")
    else:
        console.print("No problems found.", style="green")
    return 1 if problems else 0


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Run all checks; each comes after those that it depends on."""
    usable = dict(environ)
    while True:
        try:
            settings = StackSettings.from_env(usable)
            break
        except ConfigError as error:
            # The other checks use the default.
            yield Finding("settings", "problem", error.message, error.remedy)
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
        "doors": doors.check,
        "collector": _queues,
        "round trip": _round_trip,
    }
    for about, check in checks.items():
        try:
            for finding in check(folder, settings):
                if finding.about != "settings" or finding.state != "ok" or usable == environ:
                    yield finding
        except TelemetryError as error:
            yield Finding(about, "problem", error.message, error.remedy)


def _state_folder(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    folder.make()
    free_gb = shutil.disk_usage(folder.home).free / 2**30
    needed = settings.retention_gb
    if free_gb < needed:
        yield Finding(
            "state folder",
            "note",
            f"{folder.home} has {free_gb:.1f} GB free, but the stores may grow to {needed} GB",
            "lower TELEMETRY_RETENTION_GB, or set TELEMETRY_HOME to a folder on a larger disk",
        )
    else:
        yield Finding("state folder", "ok", f"{folder.home}, {free_gb:.0f} GB free")


def _settings(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    AlertSettings.from_env(settings.with_secrets().child_env)
    app = library.Settings.from_env(settings.child_env).otlp[""]
    yield Finding("settings", "ok", "all are valid")
    ours = settings.urls["otlp_http"]
    if app.given and app.address != ours:
        yield Finding(
            "settings",
            "note",
            f"apps started in this environment send to {app.address}, not to this stack ({ours})",
            "unset OTEL_EXPORTER_OTLP_ENDPOINT if that is not intended",
        )


def _engines(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    missing = []
    table = engines.table()
    for name in engines.needed():
        program = ensure.find(table[name], settings)
        if program is None:
            missing.append(name)
            continue
        version = ensure.installed_version(table[name], program, settings)
        yield Finding("engine", "ok", f"{name} {version}, {program}")
    if missing:
        go = _go_version(settings)
        yield Finding(
            "engine",
            "note" if go else "problem",
            f"not installed yet: {', '.join(missing)}",
            f"`telemetry up` fetches them, or builds them once with {go} (20 minutes)"
            if go
            else "`telemetry up` fetches them if it can reach the internet; otherwise install Go "
            "1.26 or later",
        )
    if not settings.grafana:
        yield Finding("grafana", "ok", "turned off by TELEMETRY_GRAFANA")
        return
    found = grafana.find(settings)
    if found is None:
        yield Finding(
            "grafana", "note", "not found: no dashboards", "install Grafana, or set GRAFANA_HOME"
        )
    else:
        yield Finding("grafana", "ok", str(found))


def _go_version(settings: StackSettings) -> str:
    go = shutil.which("go", path=settings.search_path)
    if go is None:
        return ""
    done = subprocess.run([go, "version"], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()[2:3])


def _docker(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    from telemetry.system.docker_engine import Engine, EngineAbsent

    try:
        with Engine(settings.child_env).connect() as client:
            version = client.version()["Version"]
    except EngineAbsent as error:
        remedy = f"{error.remedy}; only containers of the platform need it"
        if isinstance(error.__cause__, PermissionError):
            remedy = "run `sudo usermod -aG docker $USER`, and log in again"
        yield Finding("docker", "note", error.message, remedy)
    else:
        yield Finding("docker", "ok", f"Engine {version}")


def _ports(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    if supervisor_client.is_running(folder):
        return  # the stack itself has them
    programs = {name: Path(name) for name in engines.needed()}
    processes = stack_processes.engines(
        folder, settings, programs, "prometheus"
    ) + stack_processes.services(folder, settings)
    free = True
    for process in processes:
        try:
            readiness.check_ports([process], settings)
        except TelemetryError as error:
            free = False
            yield Finding("port", "problem", error.message, error.remedy)
    if free:
        yield Finding("ports", "ok", "all are free")


def _rows(folder: StateFolder) -> list[dict[str, Any]]:
    if not supervisor_client.is_running(folder):
        return []
    rows: list[dict[str, Any]] = supervisor_client.ask(folder)["processes"]
    return rows


def _processes(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    rows = _rows(folder)
    if not rows:
        yield Finding("processes", "note", "none is running", "`telemetry up` starts the stack")
    for row in rows:
        name, restarts = row["name"], row["restarts"]
        found = readiness.condition(row["ready"], settings.tls) if row["pid"] else ""
        if not found:
            why = row["last_exit"] or "it does not answer"
            yield Finding(
                name,
                "problem",
                f"down: {why}; {terminal.find_error(folder, name)}",
                f"`telemetry logs {name}`",
            )
        elif found != "ready":
            yield Finding(name, "note", f"unhealthy: {terminal.format_problems(found)}")
        elif restarts:
            yield Finding(
                name,
                "note",
                f"ready; restarts: {restarts}, the last after: {row['last_exit']}",
                f"`telemetry logs {name}`",
            )
        else:
            yield Finding(name, "ok", f"ready for {terminal.duration(row['since_s'])}")


def _alerts(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    from telemetry.alerting import rules_api

    names = {row["name"] for row in _rows(folder)}
    if not names:
        return
    mode = configuration.alerting_mode(settings, "grafana" in names)
    states = rules_api.rule_states(settings.with_secrets())
    failing = [state for state in states if state.error]
    for state in failing:
        yield Finding("alerts", "problem", f"{state.name} can't be evaluated: {state.error}")
    firing = sorted({state.name for state in states if state.state == "firing"})
    if firing:
        yield Finding("alerts", "note", f"firing: {', '.join(firing)}", "`telemetry alerts list`")
    if not failing:
        yield Finding("alerts", "ok", f"{len(states)} rules, evaluated by {mode}")


def _scrapes(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    if not _rows(folder):
        return
    try:
        url = f"{settings.urls['prometheus']}/api/v1/targets?state=active"
        answer = json_http.get_json(url, tls=settings.tls)
    except OSError:
        return  # `_processes` reports that Prometheus is down
    targets = answer["data"]["activeTargets"]
    down = [target for target in targets if target["health"] == "down"]
    for target in down:
        yield Finding(
            "scrape",
            "problem",
            f"{target['labels']['job']}: {target['lastError']}",
            "check that it is running; `telemetry run` and `telemetry up` add what they start to "
            "the scrape targets",
        )
    if not down:
        yield Finding("scrapes", "ok", f"all {len(targets)} answer")


def _queues(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    if not _rows(folder):
        return
    sizes = readiness.collector_queues(f"{settings.urls['collector_metrics']}/metrics")
    if sizes is not None and sum(sizes) > 0:
        yield Finding(
            "collector",
            "note",
            f"{sum(sizes):.0f} items wait for delivery",
            "this is normal for a few seconds; if it grows, a store is down or too slow",
        )
    elif sizes is not None:
        yield Finding("collector", "ok", "its queues are empty")


def _round_trip(folder: StateFolder, settings: StackSettings) -> Iterator[Finding]:
    if not _rows(folder):
        return
    began = time.monotonic()
    try:
        seen = readiness.check_round_trip(settings.with_secrets(), ROUND_TRIP_S)
    except OSError as error:
        yield Finding(
            "round trip",
            "problem",
            f"the collector does not accept data: it {error}",
            "`telemetry logs collector`",
        )
        return
    if seen:
        took = time.monotonic() - began
        yield Finding(
            "round trip", "ok", f"a metric and a log line were visible after {took:.2f} s"
        )
    else:
        yield Finding(
            "round trip",
            "problem",
            f"a metric and a log line were sent, but not visible within {ROUND_TRIP_S:.0f} s",
            "`telemetry logs collector` shows where they are stuck",
        )
