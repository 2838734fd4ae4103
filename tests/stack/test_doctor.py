"""`telemetry doctor`: finds what is wrong, and only that."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from telemetry.settings import credentials
from telemetry.stack.doctor import Finding, examine
from tests.fixtures.stack import Stack, until
from tests.ports import free_ports


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    """Nothing runs, nothing is there, all ports are free."""
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


def test_an_empty_machine(tmp_path: Path) -> None:
    found = look(environ(tmp_path))
    assert found["state folder"].state == "well"
    assert found["settings"].state == "well"
    assert found["ports"].state == "well"
    assert found["docker"].state == "note", "not everybody needs it"
    assert found["docker"].text.startswith(f"no Docker engine answers at unix://{tmp_path}/docker")
    assert found["processes"].remedy == "`telemetry up` starts the stack"
    engine = found["engine"]
    assert engine.state == "wrong"
    assert engine.text == "collector, prometheus, loki, alertmanager not here yet"
    assert "install Go" in engine.remedy


def test_a_machine_with_go(tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go version go1.26.8 linux/amd64\n")
    go.chmod(0o755)
    engine = look(environ(tmp_path))["engine"]
    assert engine.state == "note"
    assert "builds them with go1.26.8" in engine.remedy


def test_a_taken_port(tmp_path: Path) -> None:
    given = environ(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(given["TELEMETRY_LOKI_PORT"])))
        taken.listen()
        found = look(given)
    assert found["port"].state == "wrong"
    assert f"port {given['TELEMETRY_LOKI_PORT']}, which loki needs, is taken" in found["port"].text
    assert "ports" not in found


def test_a_setting_that_can_not_be_used(tmp_path: Path) -> None:
    """The rest is still looked at."""
    found = look(environ(tmp_path, TELEMETRY_ALERT_MEMORY_PERCENT="most"))
    assert found["settings"].state == "wrong"
    assert "TELEMETRY_ALERT_MEMORY_PERCENT" in found["settings"].text
    assert found["ports"].state == "well"


def test_every_bad_setting_is_named_and_the_rest_looked_at_with_defaults(tmp_path: Path) -> None:
    given = environ(tmp_path, TELEMETRY_RETENTION_GB="much", TELEMETRY_ALERTING="nagios")
    found = list(examine(given))
    wrong = [finding.text for finding in found if finding.about == "settings"]
    assert wrong == [
        "TELEMETRY_ALERTING='nagios' is not grafana or prometheus",
        "TELEMETRY_RETENTION_GB='much' is not a whole number from 1 to 100000",
    ]
    assert found[-1].about == "processes"


def test_secrets_that_others_can_read(tmp_path: Path) -> None:
    given = environ(tmp_path)
    home = tmp_path / "home"
    credentials.ensure(home, {})
    assert "secrets" not in look(given)
    (home / credentials.FILE).chmod(0o644)
    assert look(given)["secrets"].remedy == f"chmod 600 {home / credentials.FILE}"


def test_apps_that_send_elsewhere(tmp_path: Path) -> None:
    given = environ(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://collector.example:4318")
    notes = [f for f in examine(given) if f.about == "settings" and f.state == "note"]
    assert "apps started from here send to http://collector.example:4318" in notes[0].text


@pytest.mark.stack
def test_a_running_stack_and_one_with_a_part_missing(new_stack: Stack) -> None:
    stack = new_stack
    stack.run("up", "--no-services")
    well = until(lambda: (done := stack.run("doctor", check=False)).returncode == 0 and done)
    for name in ("prometheus", "loki", "collector", "alertmanager"):
        assert f"✓ {name}: ready for " in well.stdout
    assert "✓ round trip: a metric and a log line were there after " in well.stdout
    assert "rules, evaluated by prometheus" in well.stdout
    assert well.stdout.endswith("Nothing is wrong.\n")

    stack.supervisor("halt", "collector")
    ill = stack.run("doctor", check=False)
    assert ill.returncode == 1
    assert "✗ collector: down: exit code 0" in ill.stdout
    assert "✗ round trip: the collector takes nothing" in ill.stdout
