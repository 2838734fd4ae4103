"""Alert webhooks of Grafana and Alertmanager, and malformed ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry import testing
from telemetry.services.gateway.alerts import Alerts
from tests.gateway.conftest import HOOK, TOKEN, Gateway

# As Alertmanager 0.31 sends it, shortened.
ALERTMANAGER: dict[str, Any] = {
    "receiver": "gateway",
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "ContainerDown", "handle": "demo-1", "severity": "critical"},
            "annotations": {
                "summary": "Container demo-1 is down",
                "description": "It is wanted and does not run.",
                "runbook_url": "http://127.0.0.1:4000/runbooks#containerdown",
                "dashboard_url": "http://127.0.0.1:3200/d/container?var-handle=demo-1",
            },
            "startsAt": "2026-05-17T12:00:00.123Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=platform_container_up",
            "fingerprint": "2f1c5f0f5a3b1c11",
        }
    ],
    "groupLabels": {"alertname": "ContainerDown"},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://127.0.0.1:9093",
    "version": "4",
    "groupKey": '{}:{alertname="ContainerDown"}',
    "truncatedAlerts": 0,
}
# As Grafana sends it, shortened.
GRAFANA: dict[str, Any] = {
    "receiver": "gateway",
    "status": "firing",
    "orgId": 1,
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "HighCostRate", "user_id": "ann", "severity": "warning"},
            "annotations": {"summary": "ann spends $14.20 a day"},
            "startsAt": "2026-05-17T13:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://127.0.0.1:3200/alerting/grafana/x/view?orgId=1",
            "fingerprint": "c6eadffa33fcdf37",
            "silenceURL": "http://127.0.0.1:3200/alerting/silence/new",
            "dashboardURL": "http://127.0.0.1:3200/d/cost",
            "panelURL": "http://127.0.0.1:3200/d/cost?viewPanel=3",
            "values": {"A": 14.2},
            "valueString": "[ var='A' labels={user_id=ann} value=14.2 ]",
        }
    ],
    "groupLabels": {},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://127.0.0.1:3200/",
    "version": "1",
    "groupKey": "{}:{}",
    "truncatedAlerts": 0,
    "title": "[FIRING:1]",
    "state": "alerting",
    "message": "…",
}


def resolved(body: dict[str, Any]) -> dict[str, Any]:
    """The same alerts, resolved."""
    changes = {"status": "resolved", "endsAt": "2026-05-17T14:00:00Z"}
    return body | {"status": "resolved", "alerts": [alert | changes for alert in body["alerts"]]}


def notify(gateway: Gateway, body: Any, **headers: str) -> httpx.Response:
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    url = f"{gateway.url}/api/alert"
    return httpx.post(url, headers=HOOK | headers, timeout=60, **content)


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway without a proxy."""
    return start_gateway()


def test_webhooks_of_grafana_and_alertmanager_are_shown_and_resolved(
    gateway: Gateway, recorded: testing.Recorded
) -> None:
    with gateway.shell() as shell:
        assert json.loads(shell.recv(10)) == {"type": "alerts", "alerts": []}
        while json.loads(shell.recv(10))["type"] != "ready":
            pass
        assert notify(gateway, GRAFANA).json() == {"received": 1}
        assert notify(gateway, ALERTMANAGER).json() == {"received": 1}
        cost, down = (json.loads(shell.recv(10))["alert"] for _ in range(2))
        assert gateway.get("/api/alerts").json() == {"alerts": [down, cost]}, "criticals first"
        assert down == {
            "fingerprint": "2f1c5f0f5a3b1c11",
            "name": "ContainerDown",
            "severity": "critical",
            "status": "firing",
            "summary": "Container demo-1 is down",
            "description": "It is wanted and does not run.",
            "value": "",
            "labels": ALERTMANAGER["alerts"][0]["labels"],
            "startsAt": "2026-05-17T12:00:00.123Z",
            "endsAt": "",
            "notifiedAt": down["notifiedAt"],
            "links": {
                "runbook": "http://127.0.0.1:4000/runbooks#containerdown",
                "dashboard": "http://127.0.0.1:3200/d/container?var-handle=demo-1",
                "source": "http://127.0.0.1:9090/graph?g0.expr=platform_container_up",
            },
        }
        assert cost["links"]["dashboard"] == "http://127.0.0.1:3200/d/cost?viewPanel=3"
        assert cost["value"] == "14.2"
        firing = "gateway_alerts_firing"
        assert recorded.value(firing, severity="critical") == 1
        notify(gateway, resolved(ALERTMANAGER))
        ended = json.loads(shell.recv(10))["alert"]
        assert (ended["status"], ended["endsAt"]) == ("resolved", "2026-05-17T14:00:00Z")
        notify(gateway, resolved(GRAFANA))
        assert gateway.get("/api/alerts").json() == {"alerts": []}
        assert recorded.value(firing, severity="critical") == 0
        received = "gateway_notifications_total"
        assert recorded.value(received, status="firing", severity="critical") == 1
        assert recorded.value(received, status="resolved", severity="warning") == 1


def test_repeated_notice_is_the_same_alert(gateway: Gateway) -> None:
    for _ in range(3):
        notify(gateway, ALERTMANAGER)
    assert len(gateway.get("/api/alerts").json()["alerts"]) == 1


def test_alerts_survive_a_restart(gateway: Gateway, start_gateway: Callable[..., Gateway]) -> None:
    notify(gateway, ALERTMANAGER)
    assert len(start_gateway().get("/api/alerts").json()["alerts"]) == 1
    for broken in ("{torn", "5", "[5]", '[{"fingerprint": "x"}]', "{}"):
        (gateway.home / "alerts.json").write_text(broken)
        assert start_gateway().get("/api/alerts").json() == {"alerts": []}


def test_alert_not_repeated_for_25_hours_is_dropped(
    tmp_path: Path, recorded: testing.Recorded
) -> None:
    now = datetime(2026, 5, 17, 12, tzinfo=UTC)
    alerts = Alerts(tmp_path / "alerts.json", "https://127.0.0.1:9090", clock=lambda: now)
    alerts.receive(ALERTMANAGER)
    now += timedelta(hours=24)
    assert len(alerts.firing()) == 1
    alerts.receive(GRAFANA)
    now += timedelta(hours=2)
    assert [alert["name"] for alert in alerts.firing()] == ["HighCostRate"]
    assert recorded.value("gateway_alerts_firing", severity="critical") == 0


def test_webhook_without_token_gets_401(gateway: Gateway) -> None:
    for given in ("Bearer wrong", "Basic webhook-secret", "", TOKEN["authorization"]):
        response = notify(gateway, ALERTMANAGER, authorization=given)
        assert response.status_code == 401, given
        assert "TELEMETRY_WEBHOOK_TOKEN" in response.json()["error"]["remedy"]
    assert gateway.get("/api/alerts").json() == {"alerts": []}


def test_webhook_of_ten_megabytes_gets_413(gateway: Gateway) -> None:
    body = json.dumps(ALERTMANAGER | {"pad": "x" * (10 << 20)}).encode()
    response = notify(gateway, body)
    assert response.status_code == 413
    assert "larger than 1048576 bytes" in response.json()["error"]["message"]
    assert gateway.get("/api/alerts").json() == {"alerts": []}
    assert notify(gateway, ALERTMANAGER).status_code == 200, "and the gateway goes on"


ALERT = ALERTMANAGER["alerts"][0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe{",
        b"not json",
        b"[" * 500_000,
        b"[]",
        b'"text"',
        {"alerts": {}},
        {"alerts": ["x"]},
        {"alerts": [{}]},
        {"alerts": [ALERT | {"status": "strange"}]},
        {"alerts": [ALERT | {"labels": {}}]},
        {"alerts": [ALERT | {"labels": ["alertname"]}]},
        {"alerts": [ALERT | {"annotations": "x"}]},
        {"alerts": [ALERT, {}]},
    ],
    ids=lambda body: repr(body)[:40],
)
def test_malformed_webhook_is_refused_as_a_whole(gateway: Gateway, body: Any) -> None:
    response = notify(gateway, body)
    assert response.status_code == 400
    assert response.json()["error"]["message"]
    assert gateway.get("/api/alerts").json() == {"alerts": []}


def test_odd_values_are_text_and_only_http_links_are_links(gateway: Gateway) -> None:
    odd = {
        "status": "firing",
        "labels": {"alertname": "Odd", "n": 5, "half": "\ud800"},
        "annotations": {"runbook_url": "javascript:alert(1)", "summary": ["list"]},
        "generatorURL": 7,
    }
    assert notify(gateway, json.dumps({"alerts": [odd]}).encode()).status_code == 200
    with gateway.shell() as shell:
        (alert,) = json.loads(shell.recv(10))["alerts"]
    assert alert["labels"] == {"alertname": "Odd", "n": "5", "half": "?"}
    assert alert["summary"] == "['list']"
    assert alert["links"] == {"runbook": "", "dashboard": "", "source": ""}
    assert alert["severity"] == "warning"


@pytest.mark.parametrize(
    ("prometheus", "kept"),
    [
        ("http://127.0.0.1:9090", False),
        ("https://prometheus:9090", True),
        ("http://127.0.0.1:909", True),
    ],
)
def test_link_to_the_stacks_own_prometheus_is_left_out(
    tmp_path: Path, prometheus: str, kept: bool
) -> None:
    """It answers no browser; another Prometheus may."""
    (alert,) = Alerts(tmp_path / "alerts.json", prometheus).receive(ALERTMANAGER)
    assert bool(alert["links"]["source"]) == kept
