"""`telemetry doctor` reports all problems, and no false ones."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from telemetry.settings import credentials
from telemetry.stack.doctor import examine
from telemetry.stack.findings import Finding
from telemetry.system import json_http
from tests.fixtures.stack import Stack, until
from tests.ports import free_ports


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return the environment of an empty machine: no stack, no engines, all ports free."""
    ports = {f"TELEMETRY_{n.upper()}_PORT": str(p) for n, p in free_ports().items()}
    return {
        "TELEMETRY_HOME": str(tmp_path / "home"),
        "TELEMETRY_ENGINES": str(tmp_path / "engines"),
        "TELEMETRY_GRAFANA": "off",
        "TELEMETRY_RETENTION_GB": "1",
        "DOCKER_HOST": f"unix://{tmp_path}/docker.sock",
        "PATH": str(tmp_path),
        **ports,
        **more,
    }


def look(given: dict[str, str]) -> dict[str, Finding]:
    return {finding.about: finding for finding in examine(given)}


def test_empty_machine_needs_engines_and_may_lack_docker(tmp_path: Path) -> None:
    found = look(environ(tmp_path))
    assert found["state folder"].state == "ok"
    assert found["settings"].state == "ok"
    assert found["ports"].state == "ok"
    assert found["docker"].state == "note", "Docker is optional"
    assert found["docker"].text.startswith(f"no Docker engine answers at unix://{tmp_path}/docker")
    assert found["processes"].remedy == "`telemetry up` starts the stack"
    engine = found["engine"]
    assert engine.state == "problem"
    assert engine.text == "not installed yet: collector, prometheus, loki, alertmanager"
    assert "install Go" in engine.remedy


def test_machine_with_go_can_build_engines(tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go version go1.26.8 linux/amd64\n")
    go.chmod(0o755)
    engine = look(environ(tmp_path))["engine"]
    assert engine.state == "note"
    assert "builds them once with go1.26.8" in engine.remedy


def test_taken_port_is_a_problem(tmp_path: Path) -> None:
    given = environ(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(given["TELEMETRY_LOKI_PORT"])))
        taken.listen()
        found = look(given)
    assert found["port"].state == "problem"
    assert f"port {given['TELEMETRY_LOKI_PORT']}, which loki needs, is taken" in found["port"].text
    assert "ports" not in found


def test_invalid_setting_is_reported(tmp_path: Path) -> None:
    """The other checks still run."""
    found = look(environ(tmp_path, TELEMETRY_ALERT_MEMORY_PERCENT="most"))
    assert found["settings"].state == "problem"
    assert "TELEMETRY_ALERT_MEMORY_PERCENT" in found["settings"].text
    assert found["ports"].state == "ok"


def test_every_invalid_setting_is_reported_and_defaults_are_checked(tmp_path: Path) -> None:
    given = environ(tmp_path, TELEMETRY_RETENTION_GB="much", TELEMETRY_ALERTING="nagios")
    found = list(examine(given))
    problems = [finding.text for finding in found if finding.about == "settings"]
    assert problems == [
        "TELEMETRY_ALERTING='nagios' is not grafana or prometheus",
        "TELEMETRY_RETENTION_GB='much' is not a whole number from 1 to 100000",
    ]
    assert found[-1].about == "processes"


def test_readable_secrets_are_a_problem(tmp_path: Path) -> None:
    given = environ(tmp_path)
    home = tmp_path / "home"
    credentials.ensure(home, {})
    assert "secrets" not in look(given)
    (home / credentials.FILE).chmod(0o644)
    assert look(given)["secrets"].remedy == f"chmod 600 {home / credentials.FILE}"


def test_apps_that_send_elsewhere_are_noted(tmp_path: Path) -> None:
    given = environ(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://collector.example:4318")
    notes = [f for f in examine(given) if f.about == "settings" and f.state == "note"]
    assert notes[0].text.startswith(
        "apps started in this environment send to http://collector.example:4318, not to this stack"
    )


@pytest.mark.stack
def test_running_stack_has_no_problems_and_halted_collector_is_one(new_stack: Stack) -> None:
    stack = new_stack
    stack.run("up", "--no-services")
    healthy = until(lambda: (done := stack.run("doctor", check=False)).returncode == 0 and done)
    for name in ("prometheus", "loki", "collector", "alertmanager"):
        assert f"✓ {name}: ready for " in healthy.stdout
    assert "✓ round trip: a metric and a log line were visible after " in healthy.stdout
    assert "rules, evaluated by prometheus" in healthy.stdout
    assert "✓ doors: engines answer the stack only" in healthy.stdout
    assert healthy.stdout.endswith("No problems found.\n")

    (stack.tls / "stack-key.pem").chmod(0o644)
    readable = stack.run("doctor", check=False)
    assert readable.returncode == 1
    assert f"✗ secrets: other users can read {stack.tls}/stack-key.pem" in readable.stdout
    (stack.tls / "stack-key.pem").chmod(0o600)

    point = {"asDouble": 1, "timeUnixNano": str(time.time_ns())}
    metric = {"name": "platform_container_up", "gauge": {"dataPoints": [point]}}
    agent = {"key": "service.name", "value": {"stringValue": "agent"}}
    group = {"resource": {"attributes": [agent]}, "scopeMetrics": [{"metrics": [metric]}]}
    json_http.post_json(f"{stack.otlp_http}/v1/metrics", {"resourceMetrics": [group]})
    stack.wait_query("app_platform_container_up")
    unsigned = stack.run("doctor").stdout
    assert "! senders: app/agent sends metrics named as the stack's own" in unsigned
    assert "start it with the stack's TELEMETRY_OTLP_TOKEN" in unsigned

    stack.supervisor("halt", "collector")
    unhealthy = stack.run("doctor", check=False)
    assert unhealthy.returncode == 1
    assert "✗ collector: down: exit code 0" in unhealthy.stdout
    assert "✗ round trip: the collector does not accept data" in unhealthy.stdout
