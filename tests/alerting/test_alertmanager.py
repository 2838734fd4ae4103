"""Alertmanager with the rendered configuration delivers notices to receivers."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from telemetry.alerting.render.write import provision
from telemetry.alerting.settings import AlertSettings
from tests.alerting.processes import alertmanager as alertmanager_process
from tests.alerting.processes import get
from tests.alerting.receivers import SLACK_PATH, TELEGRAM_CHAT, TELEGRAM_TOKEN, Receivers, receivers
from tests.fixtures.stack import until

pytestmark = pytest.mark.stack

ANNOTATIONS = {
    "summary": "Container demo-1 is down",
    "description": "Container demo-1 is wanted but <does not> run & is missed.",
    "value": "down",
    "runbook_url": "http://127.0.0.1:4000/runbooks#containerdown",
    "dashboard_url": "http://127.0.0.1:3200/d/telemetry-container?viewPanel=14&var-handle=demo-1",
}


class Alertmanager:
    """The API of a running Alertmanager."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> Any:
        return get(self.url + path)

    def metric(self, name: str, integration: str) -> float:
        """Return the sum of a counter's series for one integration."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith(name) and f'integration="{integration}"' in line
        )

    def post(self, *alerts: dict[str, Any]) -> None:
        """Send alerts, as Prometheus does."""
        request = urllib.request.Request(
            self.url + "/api/v2/alerts",
            data=json.dumps(alerts).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=5):
            pass


def alert(name: str, severity: str, *, resolved: bool = False, **labels: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    body: dict[str, Any] = {
        "labels": {"alertname": name, "severity": severity, **labels},
        "annotations": ANNOTATIONS,
        "startsAt": (now - timedelta(seconds=5)).isoformat(),
    }
    if resolved:
        body["endsAt"] = now.isoformat()
    return body


@contextmanager
def running(folder: Path, environ: dict[str, str]) -> Iterator[Alertmanager]:
    provision("prometheus", folder, AlertSettings.from_env(environ))
    with alertmanager_process(folder) as url:
        yield Alertmanager(url)


@pytest.fixture
def inbox() -> Iterator[Receivers]:
    with receivers() as all_of_them:
        yield all_of_them


def test_critical_alert_and_its_resolution_reach_every_channel_immediately(
    inbox: Receivers, tmp_path: Path
) -> None:
    with running(tmp_path, inbox.environ) as alertmanager:
        alertmanager.post(alert("ContainerDown", "critical", handle="demo-1"))
        until(lambda: inbox.webhook.requests and inbox.mail.messages)
        until(lambda: inbox.slack.requests and inbox.telegram.requests)
        # A second container must not wait for the first one's interval.
        alertmanager.post(alert("ContainerDown", "critical", handle="demo-2"))
        until(lambda: len(inbox.webhook.requests) == len(inbox.mail.messages) == 2)
        until(lambda: len(inbox.slack.requests) == len(inbox.telegram.requests) == 2)
        alertmanager.post(alert("ContainerDown", "critical", resolved=True, handle="demo-1"))
        until(lambda: "resolved" in [a["status"] for a in inbox.webhook.alerts()])
        until(lambda: len(inbox.slack.requests) == 3 and len(inbox.telegram.requests) == 3)
        until(lambda: len(inbox.mail.messages) == 3)

    first, second, third = inbox.webhook.requests
    assert first.path == "/api/alert"
    assert first.headers["Authorization"] == "Bearer webhook-secret"
    [body] = first.body["alerts"]
    assert body["labels"] == {
        "alertname": "ContainerDown",
        "severity": "critical",
        "handle": "demo-1",
    }
    assert body["annotations"] == ANNOTATIONS
    assert [a["labels"]["handle"] for a in second.body["alerts"]] == ["demo-2"]
    assert third.body["status"] == "resolved"

    started = datetime.fromisoformat(body["startsAt"]).astimezone(UTC)
    text = [
        "FIRING critical: Container demo-1 is down",
        "Container demo-1 is wanted but <does not> run & is missed.",
        "Where: handle=demo-1 ",
        f"When: since {started:%Y-%m-%d %H:%M:%S} UTC",
        "Value: down",
        f"Dashboard: {ANNOTATIONS['dashboard_url']}",
        f"Runbook: {ANNOTATIONS['runbook_url']}",
    ]
    mail = inbox.mail.messages[0]
    assert mail["Subject"] == "[FIRING 1] ContainerDown demo-1"
    assert mail["To"] == "ops@example.org, night@example.org"
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().strip().splitlines() == text
    page = html.get_content()
    assert "&lt;does not&gt; run &amp; is missed" in page
    assert "#c62828" in page
    assert "width=device-width" in page
    assert 'var-handle=demo-1">Dashboard</a>' in page

    slack = inbox.slack.requests[0]
    assert slack.path == SLACK_PATH
    [attachment] = slack.body["attachments"]
    assert attachment["title"] == "[FIRING 1] ContainerDown demo-1"
    assert attachment["text"].strip().splitlines() == text

    telegram = inbox.telegram.requests[0]
    assert telegram.path == f"/bot{TELEGRAM_TOKEN}/sendMessage"
    assert int(telegram.body["chat_id"]) == TELEGRAM_CHAT
    assert telegram.body["text"].strip().splitlines() == text
    assert "parse_mode" not in telegram.body
    assert "RESOLVED critical" in inbox.telegram.requests[2].body["text"]
    assert inbox.mail.messages[2]["Subject"] == "[RESOLVED] ContainerDown demo-1"


def test_criticals_are_sent_one_by_one_and_warnings_grouped(
    inbox: Receivers, tmp_path: Path
) -> None:
    with running(tmp_path, inbox.environ) as alertmanager:
        alertmanager.post(
            alert("TelemetryLoss", "warning", job="collector", metric="a"),
            alert("TelemetryLoss", "warning", job="collector", metric="b"),
            alert("TelemetryLoss", "warning", job="loki", metric="c"),
            alert("ServiceDown", "critical", job="gateway", instance="x"),
            alert("ServiceDown", "critical", job="gateway", instance="y"),
        )
        until(lambda: len(inbox.webhook.requests) == 2)
        groups = alertmanager.get("/api/v2/alerts/groups")
        assert sorted(
            (group["labels"]["alertname"], group["labels"].get("job"), len(group["alerts"]))
            for group in groups
        ) == [
            ("ServiceDown", "gateway", 1),
            ("ServiceDown", "gateway", 1),
            ("TelemetryLoss", "collector", 2),
            ("TelemetryLoss", "loki", 1),
        ]
    # The criticals are sent immediately; the warnings wait a minute for others.
    assert {a["labels"]["alertname"] for a in inbox.webhook.alerts()} == {"ServiceDown"}


def test_notice_to_a_failed_receiver_is_counted_and_retried(
    inbox: Receivers, tmp_path: Path
) -> None:
    inbox.slack.status = 503
    with running(tmp_path, inbox.environ) as alertmanager:
        alertmanager.post(alert("ContainerDown", "critical", handle="demo-1"))
        until(lambda: len(inbox.slack.requests) >= 2)
        until(lambda: inbox.webhook.requests)  # the others don't wait for it
        assert len(inbox.webhook.requests) == 1
        failed = "alertmanager_notifications_failed_total"
        # Alertmanager counts a failure, which TelemetryLoss reads, after retrying for up to 10 s.
        until(lambda: alertmanager.metric(failed, "slack") >= 1, timeout_s=40)
        inbox.slack.status = 200
        tried = len(inbox.slack.requests)
        until(lambda: len(inbox.slack.requests) > tried, timeout_s=40)
        assert "demo-1" in json.dumps(inbox.slack.requests[-1].body)
        until(lambda: _settled(alertmanager, inbox))
    assert len(inbox.webhook.requests) == 1


def _settled(alertmanager: Alertmanager, inbox: Receivers) -> bool:
    """Check that Alertmanager doesn't retry after Slack accepted the notice."""
    before = len(inbox.slack.requests)
    failed = alertmanager.metric("alertmanager_notifications_failed_total", "slack")
    time.sleep(1)
    return len(inbox.slack.requests) == before and failed == alertmanager.metric(
        "alertmanager_notifications_failed_total", "slack"
    )


def test_quiet_hours_hold_back_warnings_but_not_criticals(inbox: Receivers, tmp_path: Path) -> None:
    environ = {**inbox.environ, "TELEMETRY_ALERT_QUIET_HOURS": "00:00-23:59 Europe/Berlin"}
    with running(tmp_path, environ) as alertmanager:
        alertmanager.post(
            alert("ContainerDown", "critical", handle="demo-1"),
            alert("HighCostRate", "warning", user_id="alice"),
        )
        until(lambda: inbox.webhook.requests)
        config = alertmanager.get("/api/v2/status")["config"]["original"]
        assert "quiet-hours" in config
        [warning] = [
            g for g in alertmanager.get("/api/v2/alerts/groups") if "user_id" in g["labels"]
        ]
        assert warning["labels"] == {"alertname": "HighCostRate", "user_id": "alice"}
    assert [a["labels"]["alertname"] for a in inbox.webhook.alerts()] == ["ContainerDown"]


def test_alertmanager_pages_do_not_show_secrets(inbox: Receivers, tmp_path: Path) -> None:
    with running(tmp_path, inbox.environ) as alertmanager:
        config = alertmanager.get("/api/v2/status")["config"]["original"]
    assert "webhook-secret" not in config
    assert "simulated-secret" not in config
