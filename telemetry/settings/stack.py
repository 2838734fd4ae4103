"""Where the stack is on this machine: state folder, ports, addresses."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path

from telemetry.settings.env import http_url, integer

PORTS = {
    "gateway": 4000,
    "proxy": 8080,
    "platform": 9000,
    "grafana": 3200,
    "prometheus": 9090,
    "loki": 3100,
    "loki_grpc": 9095,
    "alertmanager": 9093,
    "otlp_grpc": 4317,
    "otlp_http": 4318,
    "collector_metrics": 8888,
    "collector_health": 13133,
}


def keep_loopback_direct(environ: MutableMapping[str, str]) -> None:
    """Never ask what runs on this machine through an HTTP proxy: tokens would leave it.

    Args:
        environ: changed where it names a proxy; what is started inherits it.
    """
    if not any(name.lower().endswith("_proxy") and environ[name] for name in environ):
        return
    given = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    names = [name.strip() for name in given.split(",") if name.strip()]
    names += [name for name in ("127.0.0.1", "localhost", "::1") if name not in names]
    # Libraries differ in which of the two they read first.
    environ["no_proxy"] = environ["NO_PROXY"] = ",".join(names)


def home(environ: Mapping[str, str]) -> Path:
    """The state folder: TELEMETRY_HOME, else ``~/.local/state/telemetry``."""
    if given := environ.get("TELEMETRY_HOME"):
        return Path(given).expanduser().absolute()
    state = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "~")) / ".local/state"
    return Path(state).expanduser().absolute() / "telemetry"


def port(name: str, environ: Mapping[str, str]) -> int:
    """The port of a part of the stack, e.g. ``prometheus``: TELEMETRY_PROMETHEUS_PORT or 9090.

    Raises:
        ConfigError: the variable is not a port.
    """
    return integer(environ, f"TELEMETRY_{name.upper()}_PORT", PORTS[name], 1, 65535)


def url(name: str, environ: Mapping[str, str]) -> str:
    """The base address of a part of the stack, without a slash at its end:
    TELEMETRY_PROMETHEUS_URL, else its port on 127.0.0.1.

    Raises:
        ConfigError: the variable is not an http(s) address.
    """
    key = f"TELEMETRY_{name.upper()}_URL"
    given = environ.get(key, "")
    return http_url(key, given) if given else f"http://127.0.0.1:{port(name, environ)}"
