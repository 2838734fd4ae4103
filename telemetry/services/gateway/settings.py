"""The gateway's settings, read once from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from telemetry.services.prompts import PROMPTS
from telemetry.settings import credentials
from telemetry.settings.declare import (
    PATH,
    SECRET,
    TEXT,
    WORDS,
    Setting,
    declared,
    setting,
    whole_number,
)
from telemetry.settings.hosts import HOSTS
from telemetry.settings.library import METRICS_PATH
from telemetry.settings.stack import (
    PORT_SETTINGS,
    RETENTION_DAYS,
    TLS,
    URL_SETTINGS,
    ServiceSettings,
)


def _handle(resource: str) -> str:
    pairs = (pair.partition("=") for pair in resource.split(","))
    return next((value.strip() for key, _, value in pairs if key.strip() == "handle"), "")


HANDLE = Setting(
    "TELEMETRY_HANDLE",
    TEXT,
    "",
    "handle of the container that this gateway runs in; empty if none",
    otherwise=lambda environ: _handle(environ.get("OTEL_RESOURCE_ATTRIBUTES", "")),
    shown="handle of OTEL_RESOURCE_ATTRIBUTES",
)


@dataclass(frozen=True)
class Settings(ServiceSettings):
    """The gateway's settings."""

    port: int = declared(PORT_SETTINGS["gateway"])
    gateway_url: str = declared(URL_SETTINGS["gateway"])
    hosts: tuple[str, ...] = declared(HOSTS)
    metrics_path: str = declared(METRICS_PATH)
    token: str = declared(credentials.GATEWAY_TOKEN)
    webhook_token: str = declared(credentials.WEBHOOK_TOKEN)
    admin_token: str = declared(credentials.ADMIN_TOKEN)
    proxy_key: str = setting(
        "TELEMETRY_PROXY_KEY",
        SECRET,
        "",
        "the gateway's key at the proxy",
        shown="the gateway requests one",
    )
    proxy_url: str = declared(URL_SETTINGS["proxy"])
    prometheus_url: str = declared(URL_SETTINGS["prometheus"])
    loki_url: str = declared(URL_SETTINGS["loki"])
    tls: Path = declared(TLS)
    model: str = setting(
        "TELEMETRY_MODEL", TEXT, "claude-sonnet-4-6", "model that the assistant calls"
    )
    kernel: str = setting("TELEMETRY_KERNEL", TEXT, "assistant", "entry point name of the kernel")
    knowledge: Path | None = setting(
        "TELEMETRY_KNOWLEDGE",
        PATH,
        None,
        "file with the assistant's instructions",
        shown="the file in the package",
    )
    handle: str = declared(HANDLE)
    max_turns: int = setting(
        "TELEMETRY_GATEWAY_MAX_TURNS", whole_number(1, 100), 8, "maximum model calls per dispatch"
    )
    queue_limit: int = setting(
        "TELEMETRY_GATEWAY_QUEUE", whole_number(1, 100_000), 64, "maximum queued messages"
    )
    concurrency: int = setting(
        "TELEMETRY_GATEWAY_CONCURRENCY",
        whole_number(1, 1000),
        4,
        "maximum messages answered at the same time",
    )
    retention_days: int = declared(RETENTION_DAYS)
    prompts: bool = declared(PROMPTS)
    origins: tuple[str, ...] = setting(
        "TELEMETRY_GATEWAY_ORIGINS",
        WORDS,
        (),
        "further origins whose pages may call the API, separated by spaces",
    )

    @property
    def stored_proxy_key(self) -> str:
        """The key at the proxy that the gateway requested before."""
        return self.kept.get("TELEMETRY_PROXY_KEY", "")
