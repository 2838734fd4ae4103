"""Notification channels: one settings object for Alertmanager, Grafana and direct sending.

The gateway's webhook is always on; e-mail, Slack and Telegram are switched on by setting their
variables. A half-configured channel is an error: otherwise the first alert would be lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parseaddr
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from telemetry.errors import ConfigError, TelemetryError
from telemetry.settings import credentials
from telemetry.settings.declare import (
    FLAG,
    HTTP_URL,
    SECRET,
    TEXT,
    Declared,
    Kind,
    declared,
    setting,
    whole_number,
)
from telemetry.settings.stack import URL_SETTINGS


@dataclass(frozen=True)
class Webhook:
    """The gateway's webhook.

    Args:
        url: its address.
        token: the bearer token; empty if ``token_file`` names a file with it.
        token_file: path of that file as the sender sees it, e.g. a mounted secret.
    """

    url: str
    token: str = field(repr=False)
    token_file: str = ""


@dataclass(frozen=True)
class Email:
    """E-mail through an SMTP server.

    Args:
        to: the addresses.
        sender: the From address.
        host: the server.
        port: the server's port.
        user: log-in name; empty to send without log-in.
        password: the user's password.
        tls: require TLS: from the first byte on port 465, by STARTTLS on other ports.
    """

    to: tuple[str, ...]
    sender: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    tls: bool


@dataclass(frozen=True)
class Slack:
    """A Slack incoming webhook; its URL is the secret."""

    url: str = field(repr=False)


@dataclass(frozen=True)
class Telegram:
    """A Telegram bot and the chat it writes to.

    Args:
        token: the bot's token.
        chat_id: negative for groups.
        api_url: the Bot API.
    """

    token: str = field(repr=False)
    chat_id: int
    api_url: str


@dataclass(frozen=True)
class QuietHours:
    """Hours in which warnings are held back; criticals are always sent.

    Args:
        start: ``HH:MM``, inclusive.
        end: ``HH:MM``, exclusive; earlier than ``start`` if the hours cross midnight.
        location: an IANA time zone.
    """

    start: str
    end: str
    location: str

    def spans(self) -> tuple[tuple[str, str], ...]:
        """Return the hours as spans within a day: the evaluators reject one across midnight."""
        if self.start < self.end:
            return ((self.start, self.end),)
        return tuple(s for s in ((self.start, "24:00"), ("00:00", self.end)) if s[0] != s[1])


@dataclass(frozen=True)
class Channels:
    """All configured channels.

    Args:
        webhook: the gateway.
        email: None if it is off; likewise ``slack`` and ``telegram``.
        quiet_hours: None if there are no quiet hours.
    """

    webhook: Webhook
    email: Email | None = None
    slack: Slack | None = None
    telegram: Telegram | None = None
    quiet_hours: QuietHours | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Channels:
        """Read the channels' variables.

        Raises:
            ConfigError: a variable's value is invalid.
            TelemetryError: a channel is half configured, or a variable is not a setting.
        """
        variables = ChannelVariables.from_env(environ)
        given = variables.given()
        return cls(
            webhook=_webhook(variables),
            email=_email(variables, given),
            slack=Slack(variables.slack_url) if variables.slack_url else None,
            telegram=_telegram(variables, given),
            quiet_hours=variables.quiet_hours,
        )


def _parse_slack(text: str) -> str:
    if not re.match(r"https?://[^/\s]+/\S+$", text):
        raise ValueError(text)
    return text


def _parse_bot_token(text: str) -> str:
    if not re.fullmatch(r"\d+:[\w-]+", text):
        raise ValueError(text)
    return text


def _parse_quiet_hours(text: str) -> QuietHours:
    clock = r"((?:[01]\d|2[0-3]):[0-5]\d)"
    match = re.fullmatch(rf"{clock}-{clock}(?:\s+(\S+))?", text)
    if not match or match[1] == match[2]:
        raise ValueError(text)
    location = match[3] or "UTC"
    try:
        ZoneInfo(location)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(text) from error
    return QuietHours(match[1], match[2], location)


_SLACK = Kind(
    _parse_slack, "an address such as https://hooks.slack.com/services/T/B/X", secret=True
)
_BOT_TOKEN = Kind(_parse_bot_token, "a bot token such as 123456:ABC-DEF", secret=True)
_CHAT_ID = Kind(int, "a chat id, a whole number (negative for groups)")
_QUIET_HOURS = Kind(_parse_quiet_hours, "hours such as 22:00-07:00 or 22:00-07:00 Europe/Berlin")


@dataclass(frozen=True)
class ChannelVariables(Declared):
    """The environment variables from which `Channels` is built."""

    PREFIXES: ClassVar[tuple[str, ...]] = (
        "TELEMETRY_SMTP_",
        "TELEMETRY_SLACK_",
        "TELEMETRY_TELEGRAM_",
    )
    DOCUMENTED: ClassVar[str] = "docs/alerting.md"

    gateway: str = declared(URL_SETTINGS["gateway"])
    webhook_token: str = declared(credentials.WEBHOOK_TOKEN)
    webhook_token_file: str = setting(
        "TELEMETRY_WEBHOOK_TOKEN_FILE",
        TEXT,
        "",
        "file with the webhook's token, used if TELEMETRY_WEBHOOK_TOKEN is not set",
    )
    email_to: str = setting(
        "TELEMETRY_ALERT_EMAIL_TO", TEXT, "", "e-mail addresses, separated by commas"
    )
    smtp_host: str = setting("TELEMETRY_SMTP_HOST", TEXT, "", "host name of the mail server")
    smtp_port: int | None = setting(
        "TELEMETRY_SMTP_PORT", whole_number(1, 65535), None, "port of the mail server", shown="587"
    )
    smtp_user: str = setting("TELEMETRY_SMTP_USER", TEXT, "", "log-in name at the mail server")
    smtp_password: str = setting(
        "TELEMETRY_SMTP_PASSWORD", SECRET, "", "password at the mail server"
    )
    smtp_from: str = setting(
        "TELEMETRY_SMTP_FROM", TEXT, "", "sender's e-mail address", shown="TELEMETRY_SMTP_USER"
    )
    smtp_tls: bool | None = setting(
        "TELEMETRY_SMTP_TLS",
        FLAG,
        None,
        "require TLS: from the first byte on port 465, by STARTTLS on other ports",
        shown="true",
    )
    slack_url: str = setting(
        "TELEMETRY_SLACK_WEBHOOK_URL",
        _SLACK,
        "",
        "address of an incoming webhook of Slack; it is a secret",
    )
    telegram_token: str = setting(
        "TELEMETRY_TELEGRAM_BOT_TOKEN", _BOT_TOKEN, "", "token of the Telegram bot"
    )
    telegram_chat: int | None = setting(
        "TELEMETRY_TELEGRAM_CHAT_ID",
        _CHAT_ID,
        None,
        "id of the chat that the bot writes to; negative for groups",
    )
    telegram_api: str = setting(
        "TELEMETRY_TELEGRAM_API_URL",
        HTTP_URL,
        "https://api.telegram.org",
        "address of Telegram's Bot API",
    )
    quiet_hours: QuietHours | None = setting(
        "TELEMETRY_ALERT_QUIET_HOURS",
        _QUIET_HOURS,
        None,
        "hours in which warnings are held back, e.g. 22:00-07:00 Europe/Berlin",
    )


def _complete(channel: str, given: list[str], needed: list[str]) -> None:
    missing = [key for key in needed if key not in given]
    if missing:
        raise TelemetryError(
            f"{channel} is half configured: {', '.join(sorted(given))} set, "
            f"{', '.join(missing)} missing",
            remedy=f"set {' and '.join(missing)} too, or unset the others",
            exit_code=78,
        )


def _webhook(variables: ChannelVariables) -> Webhook:
    token, file = variables.webhook_token, variables.webhook_token_file
    if not token and not file:
        raise TelemetryError(
            "TELEMETRY_WEBHOOK_TOKEN is not set: the gateway would refuse every alert",
            remedy="run `telemetry up`, which stores one in secrets.env; or set it yourself",
            exit_code=78,
        )
    return Webhook(f"{variables.gateway}/api/alert", token, "" if token else file)


def _email(variables: ChannelVariables, given: Mapping[str, Any]) -> Email | None:
    to, smtp = "TELEMETRY_ALERT_EMAIL_TO", "TELEMETRY_SMTP_"
    ours = [key for key in given if key == to or key.startswith(smtp)]
    if not ours:
        return None
    needed = [to, f"{smtp}HOST"]
    if variables.smtp_user or variables.smtp_password:
        needed += [f"{smtp}USER", f"{smtp}PASSWORD"]
    if "@" not in variables.smtp_user:
        needed.append(f"{smtp}FROM")
    _complete("e-mail", ours, needed)
    addresses = tuple(a.strip() for a in re.split("[,;]", variables.email_to) if a.strip())
    sender = variables.smtp_from
    for key, address in [(to, a) for a in addresses] + [(f"{smtp}FROM", sender)]:
        if address and "@" not in parseaddr(address)[1]:
            raise ConfigError(key, address, "an e-mail address")
    return Email(
        to=addresses,
        sender=sender or variables.smtp_user,
        host=variables.smtp_host,
        port=variables.smtp_port or 587,
        user=variables.smtp_user,
        password=variables.smtp_password,
        tls=variables.smtp_tls is not False,
    )


def _telegram(variables: ChannelVariables, given: Mapping[str, Any]) -> Telegram | None:
    ours = [key for key in given if key.startswith("TELEMETRY_TELEGRAM_")]
    if not ours:
        return None
    _complete("Telegram", ours, ["TELEMETRY_TELEGRAM_BOT_TOKEN", "TELEMETRY_TELEGRAM_CHAT_ID"])
    assert variables.telegram_chat is not None
    return Telegram(variables.telegram_token, variables.telegram_chat, variables.telegram_api)
