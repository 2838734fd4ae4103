"""Send one of the stack's tokens with what a process exports to this machine's Collector."""

from __future__ import annotations

from collections.abc import MutableMapping
from urllib.parse import quote, urlsplit

from telemetry.settings import credentials
from telemetry.settings.declare import Setting
from telemetry.settings.stack import HOME
from telemetry.system.json_http import is_loopback

_SIGNALS = ("METRICS", "LOGS", "TRACES")


def add(environ: MutableMapping[str, str], secret: Setting[str]) -> None:
    """Add the token to OTEL_EXPORTER_OTLP_HEADERS, unless that has one.

    Another machine's Collector has other tokens, and must not see ours: if only some signals are
    sent to this machine, their own variables get the token, OTEL_EXPORTER_OTLP_METRICS_HEADERS etc.

    Args:
        environ: the environment of this process and its children; changed.
        secret: ``credentials.OTLP_TOKEN`` for a service, of which the Collector believes what it
            says of itself; ``credentials.APPS_TOKEN`` for an app.

    Raises:
        TelemetryError: the state folder can't be written.
    """

    def read(name: str) -> str:
        return environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()

    every = read("ENDPOINT") or "http://127.0.0.1"
    here = [signal for signal in _SIGNALS if is_here(read(f"{signal}_ENDPOINT") or every)]
    names = ["HEADERS"] if len(here) == len(_SIGNALS) else [f"{signal}_HEADERS" for signal in here]
    for name in names:
        given = read(name) or read("HEADERS")
        if "authorization" not in given.lower():
            token = credentials.ensure(HOME.read(environ), environ)[secret.variable]
            header = f"authorization={quote(f'Bearer {token}')}"
            environ[f"OTEL_EXPORTER_OTLP_{name}"] = f"{given},{header}" if given else header


def is_here(endpoint: str) -> bool:
    """Return whether an OTLP endpoint is this machine's Collector, which may see the token."""
    host = urlsplit(endpoint).hostname or ""
    # Nothing of the stack listens on ::1.
    return is_loopback(host) and ":" not in host
