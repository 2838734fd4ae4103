"""The stack's secrets: generated once, stored in ``secrets.env`` (mode 0600) of its state folder.

Environment variables override the file. Provider keys are never stored here.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from telemetry.errors import TelemetryError, UnwritableError
from telemetry.settings.declare import SECRET, Setting
from telemetry.system.atomic_files import replace_file
from telemetry.system.file_locks import locked

FILE = "secrets.env"


def _secret(variable: str, meaning: str) -> Setting[str]:
    return Setting(variable, SECRET, "", meaning, shown="generated at the first start")


ADMIN_TOKEN = _secret(
    "TELEMETRY_ADMIN_TOKEN", "token for the admin APIs and pages of the platform and the proxy"
)
GATEWAY_TOKEN = _secret("TELEMETRY_GATEWAY_TOKEN", "token for the gateway's web shell and API")
WEBHOOK_TOKEN = _secret("TELEMETRY_WEBHOOK_TOKEN", "token for sending alerts to the gateway")
GRAFANA_PASSWORD = _secret("TELEMETRY_GRAFANA_PASSWORD", "password of Grafana's user `admin`")
OTLP_TOKEN = _secret(
    "TELEMETRY_OTLP_TOKEN",
    "token for OTLP from other machines, and for what services and engines say of themselves",
)
APPS_TOKEN = _secret(
    "TELEMETRY_APPS_TOKEN", "token for OTLP of apps if TELEMETRY_OTLP_AUTH is required"
)
SETTINGS = (
    ADMIN_TOKEN,
    GATEWAY_TOKEN,
    WEBHOOK_TOKEN,
    GRAFANA_PASSWORD,
    OTLP_TOKEN,
    APPS_TOKEN,
)
GENERATED = tuple(one.variable for one in SETTINGS)


def ensure(home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return all secrets of the stack at ``home``; generate and store missing ones.

    Raises:
        TelemetryError: the state folder can't be written.
    """
    given = {name: text for name, value in environ.items() if (text := value.strip())}
    wanted = {name: "" for name in GENERATED if name not in given}
    kept = _update(home, {}, wanted)
    return kept | {name: given[name] for name in (*GENERATED, *kept) if name in given}


def remember(home: Path, name: str, value: str) -> None:
    """Store one more secret, or replace it.

    Raises:
        TelemetryError: the state folder can't be written.
    """
    _update(home, {name: value}, {})


def _update(home: Path, given: Mapping[str, str], missing: Mapping[str, str]) -> dict[str, str]:
    path = home / FILE
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Two services that start at the same time must not generate two tokens.
        with locked(home / f"{FILE}.lock"):
            kept = _read(path)
            fresh = {name: secrets.token_urlsafe(32) for name in missing if not kept.get(name)}
            merged = kept | fresh | dict(given)
            if merged != kept:
                text = "".join(f"{name}={value}\n" for name, value in merged.items())
                replace_file(path, text, durable=True)
    except OSError as error:
        raise UnwritableError(f"state folder {home}", "TELEMETRY_HOME", error) from error
    return merged


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise TelemetryError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}",
            remedy="fix that line, or move the file away: new secrets are then generated",
            exit_code=78,  # EX_CONFIG
        ) from error
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}
