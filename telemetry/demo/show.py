"""Run the demo and report its results."""

from __future__ import annotations

import socket
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from telemetry.demo import web
from telemetry.demo.containers import Containers
from telemetry.demo.spending import USERS, Spenders
from telemetry.errors import TelemetryError
from telemetry.settings import credentials
from telemetry.settings.stack import StackSettings
from telemetry.stack import readiness, supervisor_client, up
from telemetry.stack.processes import Process
from telemetry.stack.state_folder import StateFolder
from telemetry.system import json_http, own_package
from telemetry.system.terminal import PlainTable, Terminal, plain_table, styled

ARRIVED_S = 20.0


def run(settings: StackSettings, seconds: int) -> int:
    """Start the stack, send traffic, and print what was recorded.

    Args:
        settings: the stack's settings.
        seconds: duration of the traffic.

    Returns:
        The exit code: 0 if Prometheus counted every request once and Loki has one access log line
            for each, else 1.

    Raises:
        TelemetryError: a stack is running already, Datasette is not installed, or a process did
            not start.
    """
    console = Terminal()
    folder = StateFolder(settings.home)
    if supervisor_client.is_running(folder):
        raise TelemetryError(
            f"a stack is already running in {folder.home}; the demo needs to start its own",
            remedy="stop it with `telemetry down`, or use another folder: "
            "TELEMETRY_HOME=/some/other/folder telemetry demo",
            exit_code=75,  # EX_TEMPFAIL
        )
    simulated = _free_port()
    given = {"TELEMETRY_MODEL": settings.child_env.get("TELEMETRY_MODEL", "claude-sonnet-4-6")}
    for provider in ("ANTHROPIC", "OPENAI"):
        given[f"TELEMETRY_{provider}_URL"] = f"http://127.0.0.1:{simulated}/v1"
        given[f"{provider}_API_KEY"] = "simulated"
    settings = settings.changed(**given)
    # The simulated model is part of the stack, so that the web shell also answers after the demo.
    model = Process(
        "simulated",
        own_package.command("telemetry.simulated", "--port", str(simulated)),
        ready=f"http://127.0.0.1:{simulated}/v1/models",
        ports=(simulated,),
        tier=0,
        url=f"http://127.0.0.1:{simulated}",
    )
    up.up(settings, "auto", with_services=True, extra=(model,))
    settings = settings.with_secrets()
    console.heading("traffic")
    spenders = Spenders(settings)
    containers = Containers(settings)
    no_docker = containers.unavailable()
    spending = threading.Thread(target=spenders.spend, args=(seconds,), daemon=True)
    began = time.time()
    with web.datasette(folder.data, _free_port(), settings) as base:
        console.print(f"Datasette (unchanged) runs under `telemetry run`: {base}")
        console.print(f"{len(USERS)} users call the simulated model through the proxy")
        spending.start()
        if no_docker:
            console.print(no_docker)
        else:
            wrong = containers.run_all()
            console.print(
                wrong or "3 containers: one keeps running, one is killed, one runs out of memory"
            )
        with console.status(f"{seconds} s of traffic"):
            statuses = web.visit(base, seconds)
        spending.join()
    console.heading("results")
    return _report(console, settings, statuses, spenders, began)


def _report(
    console: Terminal,
    settings: StackSettings,
    statuses: Mapping[int, int],
    spenders: Spenders,
    began: float,
) -> int:
    sent = sum(statuses.values())

    def requests(which: str = "") -> float:
        series = f'http_server_request_duration_seconds_count{{job="{web.SERVICE}"{which}}}'
        return _number(settings, f"sum(max_over_time({series}[{_since(began)}]))")

    def lines() -> float:
        query = f'{{service_name="{web.SERVICE}"}} |= `"GET /`'
        return _logs_number(settings, f"sum(count_over_time({query} [{_since(began)}]))")

    readiness.wait(lambda: requests() >= sent, ARRIVED_S)
    readiness.wait(lambda: lines() >= sent, ARRIVED_S)
    table = plain_table("", "sent", "found", "where", numbers=("sent", "found"))
    found, logged = requests(), lines()
    table.add_row("requests to Datasette", str(sent), f"{found:.0f}", "Prometheus")
    table.add_row("their access log lines", str(sent), f"{logged:.0f}", "Loki")
    missing = sum(statuses[s] for s in statuses if s == 404)
    not_found = requests(',http_response_status_code="404"')
    table.add_row("of them not found (404)", str(missing), f"{not_found:.0f}", "Prometheus")
    console.print(table)
    console.print()
    console.print(_costs(settings, spenders))
    console.print()
    _alerts(console, settings)
    console.print(
        "\nLook around: the web shell and the platform's page are at the addresses above. Log in "
        f"with the tokens in {settings.home / credentials.FILE}.\n"
        "The stack keeps running, with the simulated model; stop it with `telemetry down`."
    )
    if (found, logged) != (sent, sent):
        console.print(
            styled(
                ("The number of requests sent differs from the number recorded.", "red"),
                " `telemetry doctor` checks each step of the way.",
            )
        )
        return 1
    return 0


def _since(began: float) -> str:
    """Return a query range that includes this demo but no earlier one."""
    return f"{time.time() - began:.0f}s"


def _costs(settings: StackSettings, spenders: Spenders) -> PlainTable:
    numbers = ("calls", "refused", "cost today (ledger)", "(Prometheus)", "budget")
    table = plain_table("user", *numbers, numbers=numbers)
    budgets = {name: budget for name, budget, _ in USERS}
    rows = {row["user_id"]: row for row in spenders.costs()}
    for name, statuses in spenders.statuses.items():
        row = rows.get(name, {"calls": 0, "cost_usd": "0"})
        query = f'max(proxy_user_cost_today_usd{{user_id="{name}"}})'
        cost = float(row["cost_usd"])
        readiness.wait(
            lambda q=query, c=cost: abs(_number(settings, q) - c) < 1e-9,  # type: ignore[misc]
            ARRIVED_S,
        )
        table.add_row(
            name,
            str(sum(statuses.values())),
            str(statuses[429]),
            f"${cost:.6f}",
            f"${_number(settings, query):.6f}",
            f"${budgets[name]:.2f}",
        )
    return table


def _alerts(console: Terminal, settings: StackSettings) -> None:
    from telemetry.alerting import rules_api

    firing = [
        (state, instance)
        for state in rules_api.rule_states(settings)
        for instance in state.instances
        if instance.firing
    ]
    if not firing:
        console.print("no alert is firing")
    for state, instance in firing:
        where = " ".join(f"{name}={value}" for name, value in sorted(instance.labels.items()))
        severity = (state.severity, "bold")
        console.print(styled(severity, f" {state.name} {where}: {instance.value}"))


def _query(settings: StackSettings, promql: str) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode({"query": promql})
    url = f"{settings.urls['prometheus']}/api/v1/query?{query}"
    answer = json_http.get_json(url, tls=settings.tls)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def _number(settings: StackSettings, promql: str) -> float:
    found = _query(settings, promql)
    return float(found[0]["value"][1]) if found else 0.0


def _logs_number(settings: StackSettings, logql: str) -> float:
    query = urllib.parse.urlencode({"query": logql, "time": time.time_ns()})
    url = f"{settings.urls['loki']}/loki/api/v1/query?{query}"
    found = json_http.get_json(url, tls=settings.tls)["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
