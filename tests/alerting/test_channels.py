"""Variables switch channels on; a half-configured one is an error that names what is missing."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import pytest
import yaml

from telemetry.alerting import delivery
from telemetry.alerting.channels import (
    Channels,
    Email,
    QuietHours,
    Slack,
    Telegram,
    Webhook,
)
from telemetry.alerting.links import Links
from telemetry.alerting.render import alertmanager, grafana
from telemetry.errors import TelemetryError

TOKEN = {"TELEMETRY_WEBHOOK_TOKEN": "w"}
MAIL = {"TELEMETRY_ALERT_EMAIL_TO": "ops@example.org", "TELEMETRY_SMTP_HOST": "mail.example.org"}

EVERY = {
    **TOKEN,
    **MAIL,
    "TELEMETRY_ALERT_EMAIL_TO": "ops@example.org; Night <night@example.org>",
    "TELEMETRY_SMTP_USER": "robot@example.org",
    "TELEMETRY_SMTP_PASSWORD": "p",
    "TELEMETRY_SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/X",
    "TELEMETRY_TELEGRAM_BOT_TOKEN": "1:a-b",
    "TELEMETRY_TELEGRAM_CHAT_ID": "-100200",
    "TELEMETRY_ALERT_QUIET_HOURS": "22:00-07:00 Europe/Berlin",
}


def test_gateway_is_the_only_channel_by_default() -> None:
    assert Channels.from_env(TOKEN) == Channels(Webhook("http://127.0.0.1:4000/api/alert", "w"))


def test_every_channel_is_switched_on_by_its_variables() -> None:
    assert Channels.from_env(EVERY) == Channels(
        webhook=Webhook("http://127.0.0.1:4000/api/alert", "w"),
        email=Email(
            to=("ops@example.org", "Night <night@example.org>"),
            sender="robot@example.org",
            host="mail.example.org",
            port=587,
            user="robot@example.org",
            password="p",
            tls=True,
        ),
        slack=Slack("https://hooks.slack.com/services/T/B/X"),
        telegram=Telegram("1:a-b", -100200, "https://api.telegram.org"),
        quiet_hours=QuietHours("22:00", "07:00", "Europe/Berlin"),
    )


def test_every_channel_is_rendered_for_both_evaluators_and_sent_to_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channels = Channels.from_env(EVERY)
    names = {field.name for field in fields(Channels)} - {"quiet_hours"}
    configuration = yaml.safe_load(alertmanager.configuration(channels)["alertmanager.yaml"])
    [receiver] = (r for r in configuration["receivers"] if "webhook_configs" in r)
    assert {key.removesuffix("_configs") for key in receiver} - {"name"} == names
    points = yaml.safe_load(
        grafana.provisioning((), Links.from_env({}), channels, ())["contact-points.yaml"]
    )
    [point] = points["contactPoints"]
    assert {receiver["type"] for receiver in point["receivers"]} == names
    monkeypatch.setattr(delivery, "_try", lambda channel, *_: channel)
    notice = delivery.Notice("Test", "warning", "", "", datetime.now(UTC), {}, {})
    sent = delivery.send(notice, channels)
    assert len(set(sent)) == len(names)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("TELEMETRY_SLACK_URL", "did you mean TELEMETRY_SLACK_WEBHOOK_URL"),
        ("TELEMETRY_SMTP_HOSTNAME", "did you mean TELEMETRY_SMTP_HOST"),
        ("TELEMETRY_TELEGRAM_CHAT", "did you mean TELEMETRY_TELEGRAM_CHAT_ID"),
    ],
)
def test_misspelt_variable_of_a_channel_is_an_error(key: str, meant: str) -> None:
    with pytest.raises(TelemetryError, match=f"{key} is not a setting") as raised:
        Channels.from_env({**TOKEN, key: "x"})
    assert meant in raised.value.remedy


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "TELEMETRY_WEBHOOK_TOKEN is not set: the gateway would refuse every alert"),
        (
            {**TOKEN, "TELEMETRY_ALERT_EMAIL_TO": "ops@example.org"},
            "e-mail is half configured: TELEMETRY_ALERT_EMAIL_TO set, "
            "TELEMETRY_SMTP_HOST, TELEMETRY_SMTP_FROM missing",
        ),
        (
            {**TOKEN, **MAIL, "TELEMETRY_SMTP_USER": "robot@example.org"},
            "e-mail is half configured: TELEMETRY_ALERT_EMAIL_TO, TELEMETRY_SMTP_HOST, "
            "TELEMETRY_SMTP_USER set, TELEMETRY_SMTP_PASSWORD missing",
        ),
        (
            {**TOKEN, **MAIL},
            "e-mail is half configured: TELEMETRY_ALERT_EMAIL_TO, TELEMETRY_SMTP_HOST set, "
            "TELEMETRY_SMTP_FROM missing",
        ),
        (
            {**TOKEN, "TELEMETRY_TELEGRAM_BOT_TOKEN": "1:a"},
            "Telegram is half configured: TELEMETRY_TELEGRAM_BOT_TOKEN set, "
            "TELEMETRY_TELEGRAM_CHAT_ID missing",
        ),
        (
            {**TOKEN, "TELEMETRY_TELEGRAM_CHAT_ID": "-100200"},
            "Telegram is half configured: TELEMETRY_TELEGRAM_CHAT_ID set, "
            "TELEMETRY_TELEGRAM_BOT_TOKEN missing",
        ),
        (
            {
                **TOKEN,
                "TELEMETRY_TELEGRAM_BOT_TOKEN": "1:a",
                "TELEMETRY_TELEGRAM_CHAT_ID": "@channel",
            },
            "TELEMETRY_TELEGRAM_CHAT_ID='@channel' is not a chat id, a whole number "
            "(negative for groups)",
        ),
        (
            {**TOKEN, **MAIL, "TELEMETRY_SMTP_FROM": "nobody"},
            "TELEMETRY_SMTP_FROM='nobody' is not an e-mail address",
        ),
        (
            {**TOKEN, **MAIL, "TELEMETRY_SMTP_FROM": "a@b", "TELEMETRY_SMTP_PORT": "0"},
            "TELEMETRY_SMTP_PORT='0' is not a whole number from 1 to 65535",
        ),
        (
            {**TOKEN, "TELEMETRY_ALERT_QUIET_HOURS": "22-7"},
            "TELEMETRY_ALERT_QUIET_HOURS='22-7' is not hours such as 22:00-07:00 or "
            "22:00-07:00 Europe/Berlin",
        ),
        (
            {**TOKEN, "TELEMETRY_ALERT_QUIET_HOURS": "22:00-07:00 Nowhere/Land"},
            "TELEMETRY_ALERT_QUIET_HOURS='22:00-07:00 Nowhere/Land' is not hours such as "
            "22:00-07:00 or 22:00-07:00 Europe/Berlin",
        ),
    ],
)
def test_half_configured_or_invalid_channel_is_an_error(
    environ: dict[str, str], message: str
) -> None:
    with pytest.raises(TelemetryError) as error:
        Channels.from_env(environ)
    assert error.value.message == message
    assert error.value.remedy
    assert error.value.exit_code == 78


def test_secrets_are_neither_shown_nor_repeated_in_errors() -> None:
    secrets = {
        "TELEMETRY_WEBHOOK_TOKEN": "s3cret-webhook",
        **MAIL,
        "TELEMETRY_SMTP_USER": "robot@example.org",
        "TELEMETRY_SMTP_PASSWORD": "s3cret-mail",
        "TELEMETRY_SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/s3cret",
        "TELEMETRY_TELEGRAM_BOT_TOKEN": "1:s3cret",
        "TELEMETRY_TELEGRAM_CHAT_ID": "5",
    }
    assert "s3cret" not in repr(Channels.from_env(secrets))
    for key, value in (
        ("TELEMETRY_SLACK_WEBHOOK_URL", "hooks.slack.com/s3cret"),
        ("TELEMETRY_TELEGRAM_BOT_TOKEN", "s3cret"),
    ):
        with pytest.raises(TelemetryError) as error:
            Channels.from_env({**secrets, key: value})
        assert key in error.value.message
        assert "s3cret" not in error.value.message + error.value.remedy


@pytest.mark.parametrize(
    ("start", "end", "spans"),
    [
        ("12:00", "13:30", (("12:00", "13:30"),)),
        ("22:00", "07:00", (("22:00", "24:00"), ("00:00", "07:00"))),
        ("22:00", "00:00", (("22:00", "24:00"),)),
    ],
)
def test_quiet_hours_over_midnight_are_two_spans(
    start: str, end: str, spans: tuple[tuple[str, str], ...]
) -> None:
    assert QuietHours(start, end, "UTC").spans() == spans


def test_token_may_be_read_from_a_file() -> None:
    channels = Channels.from_env({"TELEMETRY_WEBHOOK_TOKEN_FILE": "/run/secrets/t"})
    assert channels.webhook == Webhook("http://127.0.0.1:4000/api/alert", "", "/run/secrets/t")
