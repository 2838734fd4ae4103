"""The platform's settings, read once from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.util.re import parse_env_headers

from telemetry.settings import credentials
from telemetry.settings.declare import (
    FLAG,
    HTTP_URL,
    PATH,
    TEXT,
    Kind,
    Setting,
    declared,
    derived,
    number,
    setting,
    whole_number,
)
from telemetry.settings.hosts import HOSTS
from telemetry.settings.library import METRICS_PATH
from telemetry.settings.otlp_token import is_here
from telemetry.settings.stack import PORT_SETTINGS, URL_SETTINGS, ServiceSettings

# Docker's own minimum; with less no container starts.
MIN_MEMORY_BYTES = 6 << 20
MAX_MEMORY_BYTES = 1 << 50
MAX_CPUS = 1024
MAX_PIDS = 32768
# Enough for most services, too few to exhaust the machine's. Chosen by judgement, not measured.
PIDS_LIMIT = 512
CAPABILITY = re.compile(r"[A-Z][A-Z_]*")
# Of Docker's default, those with which a program that starts as root can take over its own folders
# and then become another user. None reaches beyond the container.
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETUID",
)
RELAY_PORT = 9001
NETWORK = "telemetry"


def _folders(text: str) -> tuple[Path, ...]:
    folders = tuple(Path(part) for part in text.split(":") if part)
    for folder in folders:
        # Mounting "/" would expose the whole host.
        if not folder.is_absolute() or folder == Path("/"):
            raise ValueError(text)
    return folders


_FOLDERS = Kind(
    _folders, "folders such as /srv/data:/mnt", lambda folders: ":".join(map(str, folders))
)


def _memory_bytes(text: str) -> int:
    value = int(text)
    if value and not MIN_MEMORY_BYTES <= value <= MAX_MEMORY_BYTES:
        raise ValueError(text)
    return value


def _capabilities(text: str) -> tuple[str, ...]:
    found = tuple(text.split())
    for name in found:
        if not CAPABILITY.fullmatch(name):
            raise ValueError(text)
    return found


_MEMORY = Kind(_memory_bytes, f"0, or a whole number from {MIN_MEMORY_BYTES}")
_CAPABILITIES = Kind(
    _capabilities, "names such as CHOWN SETUID, without CAP_, separated by spaces", " ".join
)
_ENDPOINT = Setting(
    "OTEL_EXPORTER_OTLP_ENDPOINT", HTTP_URL, "", "OTLP/HTTP address for the containers' telemetry"
)
SAMPLE_INTERVAL = Setting(
    "TELEMETRY_PLATFORM_SAMPLE_INTERVAL",
    whole_number(1, 3600),
    15,
    "seconds between samples of the containers",
)


@dataclass(frozen=True)
class Settings(ServiceSettings):
    """The platform's settings.

    Args:
        otlp_url: address for the containers' telemetry: OTEL_EXPORTER_OTLP_ENDPOINT unless that is
            for gRPC, which the relay does not speak; else this machine's Collector.
        environ: the environment, from which Docker's and the exporter's variables are read later.
    """

    port: int = declared(PORT_SETTINGS["platform"])
    platform_url: str = declared(URL_SETTINGS["platform"])
    hosts: tuple[str, ...] = declared(HOSTS)
    metrics_path: str = declared(METRICS_PATH)
    admin_token: str = declared(credentials.ADMIN_TOKEN)
    otlp_token: str = declared(credentials.OTLP_TOKEN)
    collector_url: str = declared(URL_SETTINGS["otlp_http"])
    otlp_url: str = derived(
        lambda environ: (
            (
                _ENDPOINT.read(environ)
                if environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "") != "grpc"
                else ""
            )
            or URL_SETTINGS["otlp_http"].read(environ)
        )
    )
    proxy_url: str = declared(URL_SETTINGS["proxy"])
    keys: bool = setting(
        "TELEMETRY_PLATFORM_KEYS",
        FLAG,
        True,
        "give each container a key at the proxy; false if no proxy runs",
    )
    gateway_url: str = declared(URL_SETTINGS["gateway"])
    grafana_url: str = declared(URL_SETTINGS["grafana"])
    network: str = setting(
        "TELEMETRY_PLATFORM_NETWORK", TEXT, NETWORK, "Docker network of the containers"
    )
    relay_port: int = setting(
        "TELEMETRY_PLATFORM_RELAY_PORT",
        whole_number(1, 65535),
        RELAY_PORT,
        "port of the relay, through which containers reach OTLP and the proxy",
    )
    relay_host: str = setting(
        "TELEMETRY_PLATFORM_RELAY_HOST",
        TEXT,
        "",
        "host name or address by which containers reach the relay on this machine",
        shown="the network's gateway address, which is right on Linux",
    )
    relay_connections: int = setting(
        "TELEMETRY_PLATFORM_RELAY_CONNECTIONS",
        whole_number(1, 65535),
        128,
        "connections to the relay that one container may have open",
    )
    relay_rate_bytes: int = setting(
        "TELEMETRY_PLATFORM_RELAY_RATE",
        whole_number(1024, 1 << 40),
        1 << 20,
        "bytes of telemetry per second, uncompressed, that one container may send on average",
    )
    relay_series: int = setting(
        "TELEMETRY_PLATFORM_RELAY_SERIES",
        whole_number(1, 10_000_000),
        10_000,
        "series that one container may send; a histogram counts as its buckets and two more",
    )
    volumes: tuple[Path, ...] = setting(
        "TELEMETRY_PLATFORM_VOLUMES",
        _FOLDERS,
        (),
        "folders that containers may mount, with their subfolders; separated by colons",
    )
    memory_limit_bytes: int = setting(
        "TELEMETRY_PLATFORM_MEMORY",
        _MEMORY,
        512 << 20,
        "memory limit, in bytes, of a container whose request names none; 0 for no limit",
    )
    cpus: float = setting(
        "TELEMETRY_PLATFORM_CPUS",
        number(0, MAX_CPUS, f"a number from 0 to {MAX_CPUS}"),
        1.0,
        "cores of a container whose request names none; 0 for no limit",
    )
    pids_limit: int = setting(
        "TELEMETRY_PLATFORM_PIDS",
        whole_number(1, MAX_PIDS),
        PIDS_LIMIT,
        "processes and threads of a container whose request names no limit",
    )
    capabilities: tuple[str, ...] = setting(
        "TELEMETRY_PLATFORM_CAPABILITIES",
        _CAPABILITIES,
        CAPABILITIES,
        "capabilities that a request may add, separated by spaces",
    )
    daily_budget_usd: float = setting(
        "TELEMETRY_PLATFORM_DAILY_BUDGET",
        number(0, 1e9, "a number of USD"),
        10.0,
        "daily budget, in USD, of a new proxy user whose request names none; 0 for no budget",
    )
    sample_interval_s: int = declared(SAMPLE_INTERVAL)
    tailed: Path | None = setting(
        "TELEMETRY_DOCKER_CONTAINERS",
        PATH,
        None,
        "folder from which the Collector reads the logs of Docker's containers",
        shown="Docker's default",
    )
    environ: Mapping[str, str] = derived(dict)

    @property
    def otlp_headers(self) -> dict[str, str]:
        """Headers of what is sent to `otlp_url`; this machine's Collector gets the token."""
        given = self.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")
        headers = dict(parse_env_headers(given, liberal=True))
        if is_here(self.otlp_url):
            headers.setdefault("authorization", f"Bearer {self.otlp_token}")
        return headers
