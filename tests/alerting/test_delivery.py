"""Direct notices reach the receivers, and their results are returned."""

from __future__ import annotations

from datetime import UTC, datetime

from telemetry.alerting import notify_directly
from telemetry.alerting.channels import Channels
from telemetry.alerting.delivery import Notice, send
from tests.alerting.receivers import SLACK_PATH, TELEGRAM_CHAT, TELEGRAM_TOKEN, receivers
from tests.ports import free_port

NOTICE = Notice(
    name="ContainerDown",
    severity="critical",
    summary="Container demo-1 is down",
    description="It is wanted but does not run.",
    at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    labels={"handle": "demo-1"},
    annotations={
        "value": "down",
        "dashboard_url": "http://127.0.0.1:3200/d/x",
        "runbook_url": "http://127.0.0.1:4000/runbooks#containerdown",
    },
)
TEXT = """\
FIRING critical: Container demo-1 is down
It is wanted but does not run.
Where: handle=demo-1
When: since 2026-01-02 03:04:05 UTC
Value: down
Dashboard: http://127.0.0.1:3200/d/x
Runbook: http://127.0.0.1:4000/runbooks#containerdown"""


def test_notice_reaches_every_channel_and_the_answers_are_returned() -> None:
    with receivers() as inbox:
        deliveries = send(NOTICE, Channels.from_env(inbox.environ))
        assert [(d.channel, d.target, d.delivered, d.answer) for d in deliveries] == [
            ("webhook", f"{inbox.webhook.url}/api/alert", True, "200 OK: {}"),
            ("e-mail", "ops@example.org, night@example.org", True, "accepted"),
            ("Slack", "incoming webhook", True, "200 OK: ok"),
            (
                "Telegram",
                f"chat {TELEGRAM_CHAT}",
                True,
                f"200 OK: {inbox.telegram.answer.decode()}",
            ),
        ]

        [webhook] = inbox.webhook.requests
        assert webhook.path == "/api/alert"
        assert webhook.headers["Authorization"] == "Bearer webhook-secret"
        [alert] = webhook.body["alerts"]
        assert alert["labels"] == {
            "alertname": "ContainerDown",
            "severity": "critical",
            "handle": "demo-1",
        }
        assert alert["annotations"]["summary"] == "Container demo-1 is down"
        assert alert["status"] == "firing"

        [mail] = inbox.mail.messages
        assert inbox.mail.recipients == [["ops@example.org", "night@example.org"]]
        assert mail["Subject"] == "[FIRING] ContainerDown: Container demo-1 is down"
        assert mail.get_content().split("\r\n")[:-1] == TEXT.split("\n")

        [slack] = inbox.slack.requests
        assert (slack.path, slack.body) == (SLACK_PATH, {"text": TEXT})
        [telegram] = inbox.telegram.requests
        assert telegram.path == f"/bot{TELEGRAM_TOKEN}/sendMessage"
        assert telegram.body == {"chat_id": TELEGRAM_CHAT, "text": TEXT}


def test_supervisor_notifies_without_the_gateway() -> None:
    with receivers() as inbox:
        channels = Channels.from_env(inbox.environ)
        deliveries = notify_directly("Prometheus is dead", "It exited with 137.", channels)
        assert [(d.channel, d.delivered) for d in deliveries] == [
            ("e-mail", True),
            ("Slack", True),
            ("Telegram", True),
        ]
        assert inbox.webhook.requests == []
        assert "FIRING critical: Prometheus is dead" in inbox.slack.requests[0].body["text"]


def test_direct_notice_without_channels_has_no_deliveries() -> None:
    none = Channels.from_env({"TELEMETRY_WEBHOOK_TOKEN": "w"})
    assert notify_directly("Prometheus is dead", "It exited with 137.", none) == ()


def test_receivers_that_are_down_or_refuse_are_reported_without_secrets() -> None:
    with receivers() as inbox:
        environ = inbox.environ
        inbox.slack.status, inbox.slack.answer = 403, b"invalid_token"
        inbox.webhook.status, inbox.webhook.answer = 401, b"wrong token"
        inbox.telegram.status = 500
        environ["TELEMETRY_SMTP_PORT"] = str(free_port())
        deliveries = {d.channel: d for d in send(NOTICE, Channels.from_env(environ))}
    assert not any(d.delivered for d in deliveries.values())
    assert deliveries["Slack"].answer == "403 Forbidden: invalid_token"
    assert deliveries["webhook"].answer == "401 Unauthorized: wrong token"
    assert deliveries["e-mail"].answer == "Connection refused"
    for delivery in deliveries.values():
        shown = f"{delivery.target} {delivery.answer}"
        assert "simulated-secret" not in shown
        assert "webhook-secret" not in shown
