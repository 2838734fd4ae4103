"""Where notifications go: one settings object for Alertmanager, Grafana and direct sending.

The gateway's webhook is always on; e-mail, Slack and Telegram are switched on by setting their
variables. Half a channel is an error: a notice that goes nowhere is found out too late.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parseaddr
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from telemetry.alerting.thresholds import refuse_misspelt
from telemetry.errors import ConfigError, TelemetryError
from telemetry.settings import env as env_values
from telemetry.settings import stack as stack_settings

_SMTP = tuple(f"TELEMETRY_SMTP_{k}" for k in ("HOST", "PORT", "USER", "PASSWORD", "FROM", "TLS"))
_SLACK = "TELEMETRY_SLACK_WEBHOOK_URL"
_TELEGRAM = tuple(f"TELEMETRY_TELEGRAM_{k}" for k in ("BOT_TOKEN", "CHAT_ID", "API_URL"))
_KEYS = (*_SMTP, _SLACK, *_TELEGRAM)
_PREFIXES = ("TELEMETRY_SMTP_", "TELEMETRY_SLACK_", "TELEMETRY_TELEGRAM_")


@dataclass(frozen=True)
class Webhook:
    """The gateway's webhook.

    Args:
        url: its address.
        token: the bearer token; empty where ``token_file`` names a file that holds it.
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
        port: its port.
        user: log-in name, empty for none.
        password: its password.
        tls: whether TLS is required: from the first byte on port 465, by STARTTLS elsewhere.
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
    """Hours in which warnings are held back; criticals never are.

    Args:
        start: ``HH:MM``, inclusive.
        end: ``HH:MM``, exclusive; before ``start`` where midnight lies between.
        location: an IANA time zone.
    """

    start: str
    end: str
    location: str

    def spans(self) -> tuple[tuple[str, str], ...]:
        """The same without crossing midnight, which the evaluators don't take."""
        if self.start < self.end:
            return ((self.start, self.end),)
        return tuple(s for s in ((self.start, "24:00"), ("00:00", self.end)) if s[0] != s[1])


@dataclass(frozen=True)
class Channels:
    """Every configured channel.

    Args:
        webhook: the gateway.
        email: or None where it is off; so are ``slack`` and ``telegram``.
        quiet_hours: or None.
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
            ConfigError: a value isn't what its variable takes.
            TelemetryError: a channel is half configured, or a variable names no setting.
        """
        refuse_misspelt(environ, _PREFIXES, _KEYS)
        return cls(
            webhook=_webhook(environ),
            email=_email(environ),
            slack=_slack(environ),
            telegram=_telegram(environ),
            quiet_hours=_quiet_hours(environ),
        )


def _given(environ: Mapping[str, str], *keys: str) -> dict[str, str]:
    return {key: environ[key].strip() for key in keys if environ.get(key, "").strip()}


def _complete(channel: str, given: Mapping[str, str], needed: tuple[str, ...]) -> None:
    missing = [key for key in needed if key not in given]
    if missing:
        raise TelemetryError(
            f"{channel} is half configured: {', '.join(sorted(given))} set, "
            f"{', '.join(missing)} missing",
            remedy=f"set {' and '.join(missing)} too, or unset the others",
            exit_code=78,
        )


def _webhook(environ: Mapping[str, str]) -> Webhook:
    token, file = "TELEMETRY_WEBHOOK_TOKEN", "TELEMETRY_WEBHOOK_TOKEN_FILE"
    given = _given(environ, token, file)
    if not given:
        raise TelemetryError(
            f"{token} is not set: the gateway would refuse every alert",
            remedy="`telemetry up` makes one and keeps it in secrets.env; or set it yourself",
            exit_code=78,
        )
    return Webhook(
        url=stack_settings.url("gateway", environ) + "/api/alert",
        token=given.get(token, ""),
        token_file="" if token in given else given[file],
    )


def _email(environ: Mapping[str, str]) -> Email | None:
    to = "TELEMETRY_ALERT_EMAIL_TO"
    host, port, user, password, sender, tls = _SMTP
    given = _given(environ, to, host, user, password, sender, port, tls)
    if not given:
        return None
    needed = [to, host]
    if user in given or password in given:
        needed += [user, password]
    if "@" not in given.get(user, ""):
        needed.append(sender)
    _complete("e-mail", given, tuple(needed))
    addresses = tuple(a.strip() for a in re.split("[,;]", given[to]) if a.strip())
    for key, address in [(to, a) for a in addresses] + [(sender, given.get(sender, ""))]:
        if address and "@" not in parseaddr(address)[1]:
            raise ConfigError(key, address, "an e-mail address")
    return Email(
        to=addresses,
        sender=given.get(sender) or given[user],
        host=given[host],
        port=env_values.integer(environ, port, 587, 1, 65535),
        user=given.get(user, ""),
        password=given.get(password, ""),
        tls=env_values.flag(environ, tls, True),
    )


def _slack(environ: Mapping[str, str]) -> Slack | None:
    url = environ.get(_SLACK, "").strip()
    if not url:
        return None
    if not re.match(r"https?://[^/\s]+/\S+$", url):
        # The URL is a secret: the error doesn't repeat it.
        raise ConfigError(
            _SLACK, "***", "an address such as https://hooks.slack.com/services/T/B/X"
        )
    return Slack(url)


def _telegram(environ: Mapping[str, str]) -> Telegram | None:
    token, chat, api = _TELEGRAM
    given = _given(environ, token, chat, api)
    if not given:
        return None
    _complete("Telegram", given, (token, chat))
    if not re.fullmatch(r"\d+:[\w-]+", given[token]):
        raise ConfigError(token, "***", "a bot token such as 123456:ABC-DEF")
    try:
        chat_id = int(given[chat])
    except ValueError:
        raise ConfigError(
            chat, given[chat], "a chat id, a whole number (negative for groups)"
        ) from None
    url = env_values.http_url(api, given[api]) if api in given else "https://api.telegram.org"
    return Telegram(given[token], chat_id, url)


def _quiet_hours(environ: Mapping[str, str]) -> QuietHours | None:
    key = "TELEMETRY_ALERT_QUIET_HOURS"
    text = environ.get(key, "").strip()
    if not text:
        return None
    clock = r"((?:[01]\d|2[0-3]):[0-5]\d)"
    match = re.fullmatch(rf"{clock}-{clock}(?:\s+(\S+))?", text)
    expected = "hours such as 22:00-07:00 or 22:00-07:00 Europe/Berlin"
    if not match or match[1] == match[2]:
        raise ConfigError(key, text, expected)
    location = match[3] or "UTC"
    try:
        ZoneInfo(location)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(key, text, expected) from None
    return QuietHours(match[1], match[2], location)
