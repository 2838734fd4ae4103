"""Values from environment variables, checked."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from telemetry.errors import ConfigError
from telemetry.redaction import redact


def http_url(key: str, value: str) -> str:
    """``value`` as an http(s) address without a slash at its end.

    Raises:
        ConfigError: it is something else.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(key, redact(value), "an address such as http://127.0.0.1:4318")
    return value.rstrip("/")


def integer(environ: Mapping[str, str], key: str, default: int, low: int, high: int) -> int:
    """A whole number from the environment.

    Raises:
        ConfigError: it is not one, or out of range.
    """
    text = environ.get(key, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise ConfigError(key, text, f"a whole number from {low} to {high}")
    return value


def flag(environ: Mapping[str, str], key: str, default: bool) -> bool:
    """A yes or no from the environment.

    Raises:
        ConfigError: neither true nor false.
    """
    text = environ.get(key, "").strip().lower()
    if text in ("", "1", "true", "yes", "on", "0", "false", "no", "off"):
        return text in ("1", "true", "yes", "on") if text else default
    raise ConfigError(key, text, "true or false")
