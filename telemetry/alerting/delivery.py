"""Send a notice through the channels without the evaluator.

This is for tests of a channel, and for the notice that the evaluator or the gateway is dead.
"""

from __future__ import annotations

import hashlib
import json
import smtplib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Any

from telemetry.alerting.channels import Channels, Email, Slack, Telegram, Webhook
from telemetry.alerting.links import Links
from telemetry.alerting.rule import Rule
from telemetry.system import json_http
from telemetry.system.json_http import AnswerError

_TIMEOUT_S = 10.0
_ANSWER_CHARACTERS = 200
_SAMPLES = {"handle": "demo-1", "user_id": "demo-user", "job": "gateway", "model": "demo-model"}


@dataclass(frozen=True)
class Notice:
    """One alert to send.

    Args:
        name: the alert's name.
        severity: ``critical`` or ``warning``.
        summary: one line.
        description: what happened and why.
        at: start time.
        labels: further labels.
        annotations: value and links.
    """

    name: str
    severity: str
    summary: str
    description: str
    at: datetime
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    def text(self) -> str:
        """Format the notice as the templates in ``render/notices`` do."""
        lines = [
            f"FIRING {self.severity}: {self.summary}",
            self.description,
            "Where: " + " ".join(f"{k}={v}" for k, v in sorted(self.labels.items())),
            f"When: since {self.at:%Y-%m-%d %H:%M:%S} UTC",
        ]
        for title, key in (
            ("Value", "value"),
            ("Dashboard", "dashboard_url"),
            ("Runbook", "runbook_url"),
        ):
            if self.annotations.get(key):
                lines.append(f"{title}: {self.annotations[key]}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Delivery:
    """Result of sending one notice through one channel.

    Args:
        channel: ``webhook``, ``e-mail``, ``Slack`` or ``Telegram``.
        target: the recipient, without secrets.
        delivered: the channel accepted the notice.
        answer: the channel's answer, or the error.
    """

    channel: str
    target: str
    delivered: bool
    answer: str


def notify_directly(summary: str, description: str, channels: Channels) -> tuple[Delivery, ...]:
    """Send a critical notice through every configured channel except the gateway.

    Args:
        summary: one line: what and where.
        description: what it means and what to do.
        channels: the configured channels.

    Returns:
        One result per channel; empty if no channel is configured. A channel's failure is a result
        too, never an exception, since the caller is handling a failure already.
    """
    notice = Notice(
        name="TelemetrySupervisor",
        severity="critical",
        summary=summary,
        description=description,
        at=datetime.now(UTC),
        labels={"job": "supervisor"},
        annotations={},
    )
    return send(notice, channels, gateway=False)


def send(notice: Notice, channels: Channels, *, gateway: bool = True) -> tuple[Delivery, ...]:
    """Send ``notice`` through each configured channel, one after the other.

    Args:
        notice: the notice.
        channels: the configured channels.
        gateway: send it to the gateway's webhook too.
    """
    deliveries = []
    if gateway:
        hook = channels.webhook
        deliveries.append(_try("webhook", hook.url, lambda: _webhook(notice, hook)))
    if email := channels.email:
        deliveries.append(_try("e-mail", ", ".join(email.to), lambda: _email(notice, email)))
    if slack := channels.slack:
        deliveries.append(_try("Slack", "incoming webhook", lambda: _slack(notice, slack)))
    if telegram := channels.telegram:
        target = f"chat {telegram.chat_id}"
        deliveries.append(_try("Telegram", target, lambda: _telegram(notice, telegram)))
    return tuple(deliveries)


def _try(channel: str, target: str, deliver: Callable[[], str]) -> Delivery:
    try:
        return Delivery(channel, target, True, deliver())
    except (OSError, smtplib.SMTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Delivery(channel, target, False, reason)


def test_notice(rule: Rule | None, links: Links) -> Notice:
    """Make a notice that says it is a test.

    Args:
        rule: the rule to imitate, with its name, labels and links; None for a plain notice.
        links: base addresses of the links.
    """
    now = datetime.now(UTC)
    if rule is None:
        return Notice(
            name="TelemetryTest",
            severity="warning",
            summary="Test of the notification channels",
            description="This is a test notification from `telemetry alerts test`; "
            "no action needed.",
            at=now,
            labels={"job": "telemetry"},
            annotations={"value": "1"},
        )
    labels = {label: _SAMPLES.get(label, "test") for label in rule.labels}
    return Notice(
        name=rule.name,
        severity=rule.severity,
        summary=f"Test of {rule.name}",
        description=f"This is a test notification from `telemetry alerts test {rule.name}`; "
        "no action needed.",
        at=now,
        labels=labels,
        annotations={
            "value": "a test",
            "dashboard_url": links.dashboard(rule, labels),
            "runbook_url": links.runbook(rule),
        },
    )


def resolve(notice: Notice, channels: Channels) -> Delivery:
    """Send the gateway that ``notice`` is resolved: unlike the others, it lists firing alerts."""
    hook = channels.webhook
    return _try("webhook", hook.url, lambda: _webhook(notice, hook, resolved=True))


def _webhook(notice: Notice, webhook: Webhook, *, resolved: bool = False) -> str:
    token = webhook.token or Path(webhook.token_file).read_text(encoding="utf-8").strip()
    annotations = {
        "summary": notice.summary,
        "description": notice.description,
        **notice.annotations,
    }
    labels = {"alertname": notice.name, "severity": notice.severity, **notice.labels}
    status = "resolved" if resolved else "firing"
    ended = datetime.now(UTC).isoformat() if resolved else "0001-01-01T00:00:00Z"
    # Source: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
    body = {
        "version": "4",
        "status": status,
        "receiver": "telemetry",
        "groupLabels": {"alertname": notice.name},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "groupKey": f"telemetry/{notice.name}",
        "truncatedAlerts": 0,
        "alerts": [
            {
                "status": status,
                "labels": labels,
                "annotations": annotations,
                "startsAt": notice.at.isoformat(),
                "endsAt": ended,
                "generatorURL": "",
                "fingerprint": _fingerprint(labels),
            }
        ],
    }
    return _post(webhook.url, body, {"Authorization": f"Bearer {token}"})


def _fingerprint(labels: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()[:16]


def _slack(notice: Notice, slack: Slack) -> str:
    return _post(slack.url, {"text": notice.text()})


def _telegram(notice: Notice, telegram: Telegram) -> str:
    # The address holds the token; `AnswerError` doesn't repeat it.
    address = f"{telegram.api_url}/bot{telegram.token}/sendMessage"
    return _post(address, {"chat_id": telegram.chat_id, "text": notice.text()})


def _post(url: str, body: Any, headers: Mapping[str, str] | None = None) -> str:
    answer = json_http.send(url, body, headers=headers, timeout_s=_TIMEOUT_S)
    text = answer.text[:_ANSWER_CHARACTERS]
    result = f"{answer.status} {answer.reason}" + (f": {text}" if text else "")
    if answer.status >= 400:
        raise AnswerError(result, url, answer.status, text)
    return result


def _email(notice: Notice, email: Email) -> str:
    message = EmailMessage()
    message["From"] = email.sender
    message["To"] = ", ".join(email.to)
    message["Subject"] = f"[FIRING] {notice.name}: {notice.summary}"
    message["Date"] = format_datetime(notice.at)
    message["Message-ID"] = make_msgid(domain="telemetry")
    message.set_content(notice.text())
    context = ssl.create_default_context()
    if email.tls and email.port == 465:
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            email.host, email.port, timeout=_TIMEOUT_S, context=context
        )
    else:
        server = smtplib.SMTP(email.host, email.port, timeout=_TIMEOUT_S)
    with server:
        if email.tls and email.port != 465:
            server.starttls(context=context)
        if email.user:
            server.login(email.user, email.password)
        refused = server.send_message(message)
    if refused:
        raise smtplib.SMTPRecipientsRefused(refused)
    return "accepted"
