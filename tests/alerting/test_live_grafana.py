"""The provisioning files in a live Grafana, if one is installed."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from telemetry.alerting import rules_api
from telemetry.alerting.channels import Channels
from telemetry.alerting.render.grafana import environment
from telemetry.alerting.render.write import provision
from telemetry.alerting.rules import all_rules
from telemetry.alerting.settings import AlertSettings
from telemetry.alerting.thresholds import Thresholds
from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.stack.engines.grafana import home_of
from tests.alerting.processes import process, prometheus
from tests.alerting.receivers import TELEGRAM_CHAT, Receivers, receivers
from tests.alerting.test_prometheus import (
    TOTAL,
    UP,
    Stack,
    crash_container_repeatedly,
    kill_host_while_another_is_up,
)
from tests.fixtures.stack import until
from tests.ports import free_port

PASSWORD = "grafana-secret"


pytestmark = pytest.mark.grafana


@dataclass
class Grafana:
    url: str
    stack: Stack
    inbox: Receivers

    def get(self, path: str) -> Any:
        credentials = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"{self.url}/api/v1/provisioning/{path}",
            headers={"Authorization": f"Basic {credentials}"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())


@pytest.fixture(scope="module")
def grafana(tmp_path_factory: pytest.TempPathFactory, grafana_program: Path) -> Iterator[Grafana]:
    folder: Path = tmp_path_factory.mktemp("grafana")
    url = f"http://127.0.0.1:{free_port()}"
    # Prometheus without rules and without Alertmanager: Grafana evaluates and notifies.
    with receivers() as inbox, prometheus(folder, "http://127.0.0.1:9") as store:
        provision("grafana", folder, AlertSettings.from_env(inbox.environ))
        sources = folder / "grafana/provisioning/datasources"
        sources.mkdir()
        datasources = [
            {"name": kind, "uid": f"telemetry-{kind}", "type": kind, "url": address}
            for kind, address in (("prometheus", store), ("loki", "http://127.0.0.1:9"))
        ]
        (sources / "sources.yaml").write_text(
            yaml.safe_dump({"apiVersion": 1, "datasources": datasources})
        )
        home = home_of(grafana_program, StackSettings.from_env(os.environ))
        environ = {
            "GF_PATHS_DATA": str(folder / "data"),
            "GF_PATHS_LOGS": str(folder / "log"),
            "GF_PATHS_PROVISIONING": str(folder / "grafana/provisioning"),
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": url.rsplit(":", 1)[1],
            "GF_SECURITY_ADMIN_PASSWORD": PASSWORD,
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            # As in the stack: Grafana sends no notice before its second poll of the configuration.
            "GF_UNIFIED_ALERTING_ALERTMANAGER_CONFIG_POLL_INTERVAL": "10s",
            **environment(Channels.from_env(inbox.environ)),
        }
        command = [
            "env",
            *(f"{key}={value}" for key, value in environ.items()),
            *(str(grafana_program), "server", f"--homepath={home}"),
        ]
        with process(command, f"{url}/api/health", folder / "grafana.log"):
            yield Grafana(url, Stack(store, "", inbox.webhook, {}), inbox)


def test_every_rule_contact_point_and_policy_is_loaded(grafana: Grafana) -> None:
    # Current versions of Grafana answer before they have provisioned everything.
    wanted = {rule.name for rule in all_rules(Thresholds())}
    until(lambda: {rule["title"] for rule in grafana.get("alert-rules")} == wanted)
    points = {point["type"]: point for point in grafana.get("contact-points")}
    assert {"webhook", "email", "slack", "telegram"} <= set(points)
    # Grafana sends only to Telegram's own address, so only the settings can be checked.
    assert points["telegram"]["settings"]["chatid"] == str(TELEGRAM_CHAT)
    policy = grafana.get("policies")
    assert policy["receiver"] == "telemetry"
    assert len(policy["routes"]) == 3
    assert [template["name"] for template in grafana.get("templates")] == ["telemetry"]


def test_a_container_that_is_down_reaches_the_receivers(grafana: Grafana) -> None:
    here = {"handle": "demo-1"}
    grafana.stack.push("a", TOTAL, (UP, here, 0.0))
    inbox = grafana.inbox
    until(lambda: ("firing", "demo-1") in grafana.stack.notices("ContainerDown"), 60)
    [alert] = [a for a in inbox.webhook.alerts() if a["labels"]["alertname"] == "ContainerDown"]
    expected = base64.b64encode(f"grafana:{inbox.environ['TELEMETRY_WEBHOOK_TOKEN']}".encode())
    sent = inbox.webhook.requests[0].headers["Authorization"]
    assert sent == f"Basic {expected.decode()}"
    assert alert["annotations"]["summary"] == "Container demo-1 is down"
    assert alert["annotations"]["value"] == "down"
    assert alert["annotations"]["dashboard_url"].endswith("&var-handle=demo-1")
    # There are notices about the missing Loki too.
    text = "FIRING critical: Container demo-1 is down"
    until(lambda: any(text in json.dumps(request.body) for request in inbox.slack.requests))
    until(lambda: any("ContainerDown" in mail["Subject"] for mail in inbox.mail.messages))
    grafana.stack.push("a", TOTAL, (UP, here, 1.0))
    until(lambda: ("resolved", "demo-1") in grafana.stack.notices("ContainerDown"), 60)


def test_dead_host_fires_while_another_host_is_up(grafana: Grafana) -> None:
    kill_host_while_another_is_up(grafana.stack)


def test_crash_looping_container_is_down(grafana: Grafana) -> None:
    crash_container_repeatedly(grafana.stack)


def test_silence_is_made_in_grafana_if_it_evaluates(grafana: Grafana) -> None:
    environ = {
        "TELEMETRY_GRAFANA_URL": grafana.url,
        "TELEMETRY_GRAFANA_PASSWORD": PASSWORD,
        "TELEMETRY_ALERTMANAGER_URL": "http://127.0.0.1:9",
    }
    matchers = {"alertname": "ContainerDown", "handle": "demo-9"}
    identity = rules_api.silence(
        matchers, timedelta(hours=1), "moving", "me", StackSettings.from_env(environ)
    )
    [silence] = rules_api.silences(StackSettings.from_env(environ))
    assert (silence.id, set(silence.matchers)) == (
        identity,
        {"alertname=ContainerDown", "handle=demo-9"},
    )
    rules_api.end_silence(identity, StackSettings.from_env(environ))
    assert rules_api.silences(StackSettings.from_env(environ)) == ()
    with pytest.raises(TelemetryError, match="answered 401") as error:
        rules_api.silences(
            StackSettings.from_env({**environ, "TELEMETRY_GRAFANA_PASSWORD": "wrong"})
        )
    assert "TELEMETRY_GRAFANA_PASSWORD" in error.value.remedy
