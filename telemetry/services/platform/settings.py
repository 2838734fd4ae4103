"""The platform's settings, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from telemetry.errors import ConfigError
from telemetry.settings import env as env_values
from telemetry.settings.stack import HOME, PORT_SETTINGS, URL_SETTINGS

RELAY_PORT = 9001
NETWORK = "telemetry"


@dataclass(frozen=True)
class Settings:
    """The platform's settings.

    Args:
        port: TELEMETRY_PLATFORM_PORT, on 127.0.0.1.
        home: TELEMETRY_HOME, the state folder, where the desired state is stored.
        admin_token: TELEMETRY_ADMIN_TOKEN, required by the API and at log-in, and by the admin
            APIs of proxy and gateway.
        otlp_token: TELEMETRY_OTLP_TOKEN; each container's own token is derived from it.
        otlp_url: OTEL_EXPORTER_OTLP_ENDPOINT, where containers' telemetry goes; by default the
            Collector on this machine.
        proxy_url: TELEMETRY_PROXY_URL, the proxy.
        keys: TELEMETRY_PLATFORM_KEYS; false if there is no proxy: containers get no key.
        gateway_url: TELEMETRY_GATEWAY_URL, the gateway, which lists firing alerts.
        grafana_url: TELEMETRY_GRAFANA_URL, a link on the admin page.
        network: TELEMETRY_PLATFORM_NETWORK, name of the Docker network of its containers.
        relay_port: TELEMETRY_PLATFORM_RELAY_PORT, port of the relay.
        relay_host: TELEMETRY_PLATFORM_RELAY_HOST, the name by which containers reach this
            machine's loopback; "" for the network's gateway address, which works on Linux.
        volumes: TELEMETRY_PLATFORM_VOLUMES, folders that containers may mount, with everything
            below them, separated by colons.
        sample_interval_s: TELEMETRY_PLATFORM_SAMPLE_INTERVAL, seconds between samples.
        tailed: TELEMETRY_DOCKER_CONTAINERS, Docker's folder of container logs, as set for the
            Collector; None for Docker's default.
    """

    port: int
    home: Path
    admin_token: str = field(repr=False)
    otlp_token: str = field(repr=False)
    otlp_url: str
    proxy_url: str
    keys: bool
    gateway_url: str
    grafana_url: str
    network: str
    relay_port: int
    relay_host: str
    volumes: tuple[Path, ...]
    sample_interval_s: float
    tailed: Path | None
    environ: Mapping[str, str] = field(repr=False)

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
        tailed = environ.get("TELEMETRY_DOCKER_CONTAINERS", "")
        return cls(
            port=PORT_SETTINGS["platform"].read(environ),
            home=home,
            admin_token=secrets["TELEMETRY_ADMIN_TOKEN"],
            otlp_token=secrets["TELEMETRY_OTLP_TOKEN"],
            otlp_url=_otlp_url(environ),
            proxy_url=URL_SETTINGS["proxy"].read(environ),
            keys=env_values.flag(environ, "TELEMETRY_PLATFORM_KEYS", True),
            gateway_url=URL_SETTINGS["gateway"].read(environ),
            grafana_url=URL_SETTINGS["grafana"].read(environ),
            network=environ.get("TELEMETRY_PLATFORM_NETWORK", "") or NETWORK,
            relay_port=env_values.integer(
                environ, "TELEMETRY_PLATFORM_RELAY_PORT", RELAY_PORT, 1, 65535
            ),
            relay_host=environ.get("TELEMETRY_PLATFORM_RELAY_HOST", ""),
            volumes=_folders(environ.get("TELEMETRY_PLATFORM_VOLUMES", "")),
            sample_interval_s=env_values.integer(
                environ, "TELEMETRY_PLATFORM_SAMPLE_INTERVAL", 15, 1, 3600
            ),
            tailed=Path(tailed) if tailed else None,
            environ=dict(environ),
        )


def _otlp_url(environ: Mapping[str, str]) -> str:
    key = "OTEL_EXPORTER_OTLP_ENDPOINT"
    # The relay uses HTTP; an address for gRPC does not work.
    if environ.get(key) and environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "") != "grpc":
        return env_values.http_url(key, environ[key])
    return URL_SETTINGS["otlp_http"].read(environ)


def _folders(text: str) -> tuple[Path, ...]:
    folders = tuple(Path(part) for part in text.split(":") if part)
    for folder in folders:
        # Mounting "/" would expose the whole host.
        if not folder.is_absolute() or folder == Path("/"):
            raise ConfigError("TELEMETRY_PLATFORM_VOLUMES", text, "folders such as /srv/data:/mnt")
    return folders
