"""Alertmanager's configuration.

Source: https://prometheus.io/docs/alerting/latest/configuration/
"""

from __future__ import annotations

from typing import Any

from telemetry.alerting.channels import Channels, Email, QuietHours, Slack, Telegram, Webhook
from telemetry.alerting.render import templates, yaml_blocks
from telemetry.alerting.render.routing import CRITICAL, QUIET_HOURS, RECEIVER, WARNING, Timing

TEMPLATE_FILE = "alertmanager.tmpl"

_HEAD = "Rendered by `python -m telemetry.alerting`; change telemetry/alerting instead."


def configuration(channels: Channels) -> dict[str, str]:
    """Render Alertmanager's files: name to content.

    Args:
        channels: the configured channels. The configuration contains their secrets.
    """
    document: dict[str, Any] = {
        "route": {
            "receiver": RECEIVER,
            **_timing(WARNING),
            "routes": [{"matchers": ['severity="critical"'], **_timing(CRITICAL)}],
        },
        "receivers": [{"name": RECEIVER, **_receiver(channels)}],
        "templates": [TEMPLATE_FILE],
    }
    if channels.quiet_hours:
        # The root route can't be muted, so warnings get a separate route.
        document["route"]["routes"].append(
            {"matchers": ['severity!="critical"'], "mute_time_intervals": [QUIET_HOURS]}
        )
        document["time_intervals"] = [quiet_interval(channels.quiet_hours)]
    return {
        "alertmanager.yaml": yaml_blocks.dump(document, head=_HEAD),
        TEMPLATE_FILE: templates.text_templates() + "\n" + templates.html_templates(),
    }


def quiet_interval(quiet: QuietHours) -> dict[str, Any]:
    """Render quiet hours as a time interval, in the format of Alertmanager and Grafana."""
    return {
        "name": QUIET_HOURS,
        "time_intervals": [
            {
                "times": [{"start_time": start, "end_time": end} for start, end in quiet.spans()],
                "location": quiet.location,
            }
        ],
    }


def _timing(timing: Timing) -> dict[str, Any]:
    return {
        "group_by": list(timing.group_by),
        "group_wait": timing.group_wait,
        "group_interval": timing.group_interval,
        "repeat_interval": timing.repeat_interval,
    }


def _receiver(channels: Channels) -> dict[str, Any]:
    receiver: dict[str, Any] = {"webhook_configs": [_webhook(channels.webhook)]}
    if channels.email:
        receiver["email_configs"] = [_email(channels.email)]
    if channels.slack:
        receiver["slack_configs"] = [_slack(channels.slack)]
    if channels.telegram:
        receiver["telegram_configs"] = [_telegram(channels.telegram)]
    return receiver


def _webhook(webhook: Webhook) -> dict[str, Any]:
    authorization = (
        {"credentials_file": webhook.token_file}
        if webhook.token_file
        else {"credentials": webhook.token}
    )
    return {
        "send_resolved": True,
        "url": webhook.url,
        "http_config": {"authorization": {"type": "Bearer", **authorization}},
    }


def _email(email: Email) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "send_resolved": True,
        "to": ", ".join(email.to),
        "from": email.sender,
        "smarthost": f"{email.host}:{email.port}",
        # On port 465 Alertmanager uses TLS from the first byte and must not use STARTTLS too.
        "require_tls": email.tls and email.port != 465,
        "headers": {"Subject": templates.SUBJECT},
        "html": templates.HTML,
        "text": templates.TEXT,
    }
    if email.user:
        settings["auth_username"] = email.user
        settings["auth_password"] = email.password
    return settings


def _slack(slack: Slack) -> dict[str, Any]:
    return {
        "send_resolved": True,
        "api_url": slack.url,
        "title": templates.SUBJECT,
        "text": templates.TEXT,
        "fallback": templates.SUBJECT,
    }


def _telegram(telegram: Telegram) -> dict[str, Any]:
    return {
        "send_resolved": True,
        "api_url": telegram.api_url,
        "bot_token": telegram.token,
        "chat_id": telegram.chat_id,
        # Plain text, so that names of containers and users need no escaping.
        "parse_mode": "",
        "message": templates.TEXT,
    }
