"""Send one of the stack's tokens with what a process exports to this machine's Collector."""

from __future__ import annotations

from collections.abc import MutableMapping
from urllib.parse import quote, urlsplit

from telemetry.settings import credentials
from telemetry.settings.declare import Setting
from telemetry.settings.stack import HOME
from telemetry.system.json_http import is_loopback

_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


def add(environ: MutableMapping[str, str], secret: Setting[str]) -> None:
    """Add the token to OTEL_EXPORTER_OTLP_HEADERS, unless that has one.

    Another machine's Collector has other tokens, and must not see ours.

    Args:
        environ: the environment of this process and its children; changed.
        secret: ``credentials.OTLP_TOKEN`` for a service, of which the Collector believes what it
            says of itself; ``credentials.APPS_TOKEN`` for an app.

    Raises:
        TelemetryError: the state folder can't be written.
    """
    endpoint = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or "http://127.0.0.1"
    given = environ.get(_HEADERS, "").strip()
    if "authorization" in given.lower() or not is_loopback(urlsplit(endpoint).hostname or ""):
        return
    token = credentials.ensure(HOME.read(environ), environ)[secret.variable]
    header = f"authorization={quote(f'Bearer {token}')}"
    environ[_HEADERS] = f"{given},{header}" if given else header
