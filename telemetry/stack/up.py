"""The commands `telemetry up`, `down` and `restart`.

`up` starts everything, waits until it is ready, and checks that a metric and a log line arrive.
`down` stops it without losing accepted data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from telemetry.alerting import AlertSettings
from telemetry.errors import TelemetryError, UsageError
from telemetry.settings import credentials, library
from telemetry.settings.stack import StackSettings
from telemetry.stack import configuration, readiness, supervisor_client, terminal
from telemetry.stack import processes as stack_processes
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import ensure, grafana
from telemetry.stack.processes import Process
from telemetry.stack.retention import limit_loki
from telemetry.stack.state_folder import StateFolder
from telemetry.system.terminal import Terminal, styled

READY_TIMEOUT_S = 60.0


def up(
    settings: StackSettings,
    source: engines.Source,
    *,
    with_services: bool,
    extra: tuple[Process, ...] = (),
) -> int:
    """Start the stack; see `telemetry up --help`.

    Args:
        settings: the stack's settings.
        source: the sources of engines to use.
        with_services: also start gateway, platform and proxy.
        extra: more processes to run as part of the stack.

    Returns:
        The exit code: 0 if all is ready; 1 if the stack was running already, and a process is
            unhealthy or the services are missing.

    Raises:
        TelemetryError: an engine is unavailable, a port is taken, or a process did not become
            ready; everything that was started is stopped again.
    """
    console = Terminal()
    began = time.monotonic()
    folder = StateFolder(settings.home)
    folder.make()
    with supervisor_client.exclusive(folder):
        if supervisor_client.is_running(folder):
            return _running_already(folder, settings, console, with_services)
        for name in supervisor_client.reap(folder):
            console.print(f"{name} was left running by a killed supervisor; stopped it.")
        settings = settings.with_secrets()
        _ensure_certificates(settings)
        alerts = AlertSettings.from_env(settings.child_env)
        library.Settings.from_env(settings.child_env)  # the services' own telemetry
        _check_ports(folder, settings)
        programs, no_grafana = install(settings, source, console)
        mode = configuration.alerting_mode(settings, "grafana" in programs)
        processes = stack_processes.engines(folder, settings, programs, mode, alerts.channels)
        if with_services:
            processes += stack_processes.services(folder, settings)
        processes += extra
        processes = [_with_version(p, programs, settings) for p in processes]
        readiness.check_ports(processes, settings)
        configuration.write_configs(folder, settings, alerts, mode)
        limit_loki(folder, settings)
        seen = _start(folder, processes, settings, console) - began
    rows = supervisor_client.ask(folder)["processes"]
    console.print(terminal.addresses(rows, settings.tls))
    took = (f"{time.monotonic() - began:.1f} s", "bold")
    console.print(
        styled("Ready in ", took, f"; first metric and log line visible after {seen:.1f} s.")
    )
    _notes(console, settings, mode, no_grafana, folder)
    return 0


def _ensure_certificates(settings: StackSettings) -> None:
    from telemetry.stack import certificates  # takes 0.1 s to import

    certificates.ensure(settings.tls)


def _check_ports(folder: StateFolder, settings: StackSettings) -> None:
    """Check for taken ports before fetching or building engines, which can take long."""
    programs = {name: Path(name) for name in engines.needed()}
    expected = stack_processes.engines(folder, settings, programs, "prometheus")
    # Alertmanager's port is checked later: it runs only if Grafana does not evaluate.
    readiness.check_ports((p for p in expected if p.name != "alertmanager"), settings)


def _running_already(
    folder: StateFolder, settings: StackSettings, console: Terminal, with_services: bool
) -> int:
    rows = supervisor_client.ask(folder)["processes"]
    healthy = all(terminal.is_healthy(row, settings.tls) for row in rows)
    missing = with_services and not any(row["service"] for row in rows)
    if missing:
        console.print(
            styled(
                ("The engines are already running, without the services.", "yellow"),
                " To start the services too, use `telemetry down` and then `telemetry up`.",
            )
        )
    elif healthy:
        console.print("Already running.", style="green")
    else:
        console.print(
            styled(
                ("Already running, but some processes are unhealthy.", "yellow"),
                " See `telemetry logs NAME`; restart with `telemetry restart NAME`.",
            )
        )
    console.print(terminal.addresses(rows, settings.tls))
    return 0 if healthy and not missing else 1


def _start(
    folder: StateFolder, processes: list[Process], settings: StackSettings, console: Terminal
) -> float:
    """Start everything and wait until it is ready; on an error stop it again.

    Returns:
        The time of the monotonic clock at which the first metric and log line were visible.
    """
    try:
        supervisor_client.start(folder, processes, settings.child_env)
        _wait_ready(folder, [p for p in processes if not p.is_service], settings, console)
        with console.status("waiting for the first metric and log line"):
            if not readiness.check_round_trip(settings, READY_TIMEOUT_S):
                raise TelemetryError(
                    "a metric and a log line were sent, but not visible within "
                    f"{READY_TIMEOUT_S:.0f} s",
                    remedy=f"look at {folder.output}/collector.log",
                    exit_code=70,  # EX_SOFTWARE
                )
        seen = time.monotonic()
        _wait_ready(folder, [p for p in processes if p.is_service], settings, console)
    except BaseException:
        # Report the original error, not one from stopping.
        with contextlib.suppress(TelemetryError):
            supervisor_client.stop(folder)
        raise
    return seen


def install(
    settings: StackSettings, source: engines.Source, console: Terminal
) -> tuple[dict[str, Path], str]:
    """Find, fetch or build all engines' programs, with a progress bar for each fetch or build.

    Returns:
        The programs by engine, and the reason if Grafana is not among them.

    Raises:
        TelemetryError: an engine is unavailable, or GRAFANA_BIN or GRAFANA_HOME has no Grafana.
    """
    table = engines.table()
    found: dict[str, Path] = {}
    if source in ("auto", "path"):
        for name in engines.needed():
            program = ensure.find(table[name], settings)
            if program is not None:
                found[name] = program
    with terminal.ProgressBars(console) as bars:
        for name in engines.needed():
            if name not in found:
                found[name] = ensure.ensure(table[name], settings, source, bars.reporter(name))
        program, why_not = grafana.ensure(settings, source, bars.reporter("grafana"))
    if program is not None:
        found["grafana"] = program
    return found, why_not


def _with_version(
    process: Process, programs: Mapping[str, Path], settings: StackSettings
) -> Process:
    if process.name not in programs:
        return process
    engine = engines.table()[process.name]
    version = ensure.installed_version(engine, programs[process.name], settings)
    return dataclasses.replace(process, version=version)


def _wait_ready(
    folder: StateFolder, processes: list[Process], settings: StackSettings, console: Terminal
) -> None:
    waiting = {process.name: process for process in processes}
    deadline = time.monotonic() + READY_TIMEOUT_S
    with console.status("starting") as status:
        while waiting:
            status.update(styled(f"waiting for {', '.join(waiting)}"))
            for name, process in list(waiting.items()):
                if readiness.started(process, settings.tls):
                    del waiting[name]
            if not waiting:
                return
            rows = {row["name"]: row for row in supervisor_client.ask(folder)["processes"]}
            failing = [name for name in waiting if rows[name]["restarts"] >= 3]
            if failing or time.monotonic() > deadline:
                name = next(iter(failing or waiting))
                why = rows[name]["last_exit"] or f"not ready within {READY_TIMEOUT_S:.0f} s"
                raise TelemetryError(
                    f"{name} does not start: {why}; {terminal.find_error(folder, name)}",
                    remedy=f"look at {folder.output / name}.log",
                    exit_code=70,  # EX_SOFTWARE
                )
            time.sleep(readiness.POLL_S)


def _notes(
    console: Terminal, settings: StackSettings, mode: str, no_grafana: str, folder: StateFolder
) -> None:
    if not settings.grafana:
        console.print("Alerts are evaluated by prometheus; Grafana is off.")
    elif no_grafana:
        console.print(
            f"No dashboards: Grafana is unavailable ({no_grafana}). Prometheus and Loki evaluate "
            "the alerts, Alertmanager notifies.\nFor dashboards, install Grafana or set "
            "GRAFANA_HOME; then run `telemetry down` and `telemetry up`.",
            soft_wrap=True,
        )
    else:
        console.print(f"Alerts are evaluated by {mode}.")
        first = folder.home / ".grafana-password-shown"
        if not first.exists():
            password = settings.grafana_password
            console.print(f"Grafana: log in as admin, password {password} (displayed only once)")
            first.touch(mode=0o600)
    console.print(f"Log-in tokens: {folder.home / credentials.FILE} (mode 0600).")


def down(settings: StackSettings) -> int:
    """Stop the stack; accepted data is delivered or kept on disk."""
    folder = StateFolder(settings.home)
    console = Terminal()
    if not folder.home.is_dir():
        console.print(f"No stack runs in {folder.home}.", soft_wrap=True)
        return 0
    with supervisor_client.exclusive(folder):
        if not supervisor_client.is_running(folder):
            left = supervisor_client.reap(folder)
            if left:
                console.print(f"Stopped what a killed supervisor left running: {', '.join(left)}.")
            else:
                console.print(f"No stack runs in {folder.home}.", soft_wrap=True)
            return 0
        began = time.monotonic()
        with console.status("stopping: services, collector, stores"):
            supervisor_client.stop(folder)
    console.print(f"Stopped in {time.monotonic() - began:.1f} s.")
    return 0


def restart(settings: StackSettings, names: list[str]) -> int:
    """Restart the named processes, one after the other; all if no name is given."""
    folder = StateFolder(settings.home)
    console = Terminal()
    rows = supervisor_client.ask(folder)["processes"]
    processes = {row["name"]: row for row in rows}
    for name in names:
        if name not in processes:
            raise UsageError(
                f"no process is called {name!r}", remedy=f"use one of: {', '.join(processes)}"
            )
    for name in names or list(processes):
        supervisor_client.ask(folder, 60.0, do="restart", name=name)
        row = processes[name]

        def is_up(row: Mapping[str, Any] = row) -> bool:
            return terminal.is_up(row, settings.tls)

        if not readiness.wait(is_up, READY_TIMEOUT_S):
            raise TelemetryError(
                f"{name} is not ready {READY_TIMEOUT_S:.0f} s after its restart; "
                + terminal.find_error(folder, name),
                remedy=f"look at {folder.output / name}.log",
                exit_code=70,
            )
        console.print(f"{name} is ready again.")
    return 0
