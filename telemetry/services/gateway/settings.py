"""The gateway's settings, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from telemetry.settings import env as env_values
from telemetry.settings.stack import HOME, PORT_SETTINGS, URL_SETTINGS


@dataclass(frozen=True)
class Settings:
    """The gateway's settings.

    Args:
        port: on 127.0.0.1.
        home: the state folder; logs go to its ``logs/``.
        token: required at log-in and by the API.
        webhook_token: required of clients posting alerts.
        admin_token: for the admin APIs of platform and proxy, which the tools use.
        proxy_key: its own key at the proxy, if configured; "" to request one.
        stored_proxy_key: the key it requested before.
        model: the model that the assistant calls.
        kernel: the kernel's entry point name.
        knowledge: file with the assistant's instructions; None for the default.
        handle: handle of the container that this gateway runs in, "" if none.
        max_turns: model calls a dispatch may take.
        queue_limit: messages that may wait.
        concurrency: messages answered at the same time.
        retention_days: days that interaction logs are kept.
        origins: further origins that pages may call from.
    """

    port: int
    home: Path
    token: str = field(repr=False)
    webhook_token: str = field(repr=False)
    admin_token: str = field(repr=False)
    proxy_key: str = field(repr=False)
    stored_proxy_key: str = field(repr=False)
    proxy_url: str
    prometheus_url: str
    loki_url: str
    model: str
    kernel: str
    knowledge: Path | None
    handle: str
    max_turns: int
    queue_limit: int
    concurrency: int
    retention_days: int
    origins: tuple[str, ...]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the environment; missing secrets are created and stored.

        Raises:
            ConfigError: a variable has an invalid value.
            TelemetryError: the state folder can't be written.
        """
        from telemetry.settings import credentials

        home = HOME.read(environ)
        secrets = credentials.ensure(home, environ)
        knowledge = environ.get("TELEMETRY_KNOWLEDGE", "")
        return cls(
            port=PORT_SETTINGS["gateway"].read(environ),
            home=home,
            token=secrets["TELEMETRY_GATEWAY_TOKEN"],
            webhook_token=secrets["TELEMETRY_WEBHOOK_TOKEN"],
            admin_token=secrets["TELEMETRY_ADMIN_TOKEN"],
            proxy_key=environ.get("TELEMETRY_PROXY_KEY", ""),
            stored_proxy_key=secrets.get("TELEMETRY_PROXY_KEY", ""),
            proxy_url=URL_SETTINGS["proxy"].read(environ),
            prometheus_url=URL_SETTINGS["prometheus"].read(environ),
            loki_url=URL_SETTINGS["loki"].read(environ),
            model=environ.get("TELEMETRY_MODEL", "") or "claude-sonnet-4-6",
            kernel=environ.get("TELEMETRY_KERNEL", "") or "assistant",
            knowledge=Path(knowledge) if knowledge else None,
            handle=environ.get("TELEMETRY_HANDLE", "") or _handle(environ),
            max_turns=env_values.integer(environ, "TELEMETRY_GATEWAY_MAX_TURNS", 8, 1, 100),
            queue_limit=env_values.integer(environ, "TELEMETRY_GATEWAY_QUEUE", 64, 1, 100_000),
            concurrency=env_values.integer(environ, "TELEMETRY_GATEWAY_CONCURRENCY", 4, 1, 1000),
            retention_days=env_values.integer(environ, "TELEMETRY_RETENTION_DAYS", 15, 1, 3650),
            origins=tuple(environ.get("TELEMETRY_GATEWAY_ORIGINS", "").split()),
        )


def _handle(environ: Mapping[str, str]) -> str:
    for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "handle":
            return value.strip()
    return ""
