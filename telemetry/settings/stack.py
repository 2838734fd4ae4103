"""The stack on this machine: where it is, what it keeps, who evaluates its alerts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from telemetry.settings import credentials
from telemetry.settings.declare import (
    FLAG,
    HTTP_URL,
    PATH,
    TEXT,
    Declared,
    Environ,
    Kind,
    Setting,
    choice,
    declared,
    declared_each,
    derived,
    setting,
    whole_number,
)

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


def _port(name: str, default: int) -> Setting[int]:
    variable = f"TELEMETRY_{name.upper()}_PORT"
    meaning = f"port of {name.replace('_', ' ')} on 127.0.0.1"
    return Setting(variable, whole_number(1, 65535), default, meaning)


def _url(name: str) -> Setting[str]:
    variable, port = f"TELEMETRY_{name.upper()}_URL", PORT_SETTINGS[name]
    return Setting(
        variable,
        HTTP_URL,
        f"http://127.0.0.1:{port.default}",
        f"address of {name.replace('_', ' ')}, where it runs elsewhere",
        otherwise=lambda environ: f"http://127.0.0.1:{port.read(environ)}",
        shown="its port on 127.0.0.1",
    )


def _below(xdg: str, usual: str, more: str) -> Callable[[Environ], Path]:
    """Finds a folder below one of the XDG folders, or below the home folder."""
    return lambda environ: (
        Path(environ.get(xdg) or Path(environ.get("HOME", "~")) / usual).expanduser().absolute()
        / more
    )


def _listening(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not text.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(text)
    return text


PORT_SETTINGS = {name: _port(name, default) for name, default in PORTS.items()}
URL_SETTINGS = {name: _url(name) for name in PORTS}
HOME = Setting(
    "TELEMETRY_HOME",
    PATH,
    Path("~/.local/state/telemetry"),
    "the state folder: data, configuration, output, secrets; one stack each",
    otherwise=_below("XDG_STATE_HOME", ".local/state", "telemetry"),
)
ENGINES = Setting(
    "TELEMETRY_ENGINES",
    PATH,
    Path("~/.cache/telemetry/engines"),
    "the engines' cache, shared by all stacks",
    otherwise=_below("XDG_CACHE_HOME", ".cache", "telemetry/engines"),
)
RETENTION_DAYS = Setting(
    "TELEMETRY_RETENTION_DAYS", whole_number(1, 3650), 15, "days that metrics and logs are kept"
)
_ADDRESS = Kind(_listening, "an address with a port, such as 172.17.0.1:4318")


@dataclass(frozen=True)
class StackSettings(Declared):
    """What the commands for the stack, its alerts and the demo are told.

    Args:
        home: the state folder.
        ports: on 127.0.0.1, by the names in `PORTS`.
        urls: base addresses by the same names, without a slash at the end.
        child_env: the environment that child processes inherit: this process' own, with the
            secrets once `with_secrets` has added them.
    """

    home: Path = declared(HOME)
    engines: Path = declared(ENGINES)
    releases: str = setting(
        "TELEMETRY_RELEASES",
        TEXT,
        "",
        "a mirror of the releases, laid out the same way",
        shown="https://github.com, https://grafana.com",
    )
    grafana: bool = setting("TELEMETRY_GRAFANA", FLAG, True, "off: no Grafana, though there is one")
    grafana_home: str = setting("GRAFANA_HOME", TEXT, "", "Grafana's folder")
    grafana_bin: str = setting("GRAFANA_BIN", TEXT, "", "Grafana's program")
    evaluator: str = setting(
        "TELEMETRY_ALERTING",
        choice("grafana", "prometheus"),
        "",
        "who evaluates the alerts: grafana or prometheus",
        shown="grafana where one runs",
    )
    retention_days: int = declared(RETENTION_DAYS)
    retention_gb: int = setting(
        "TELEMETRY_RETENTION_GB",
        whole_number(1, 100_000),
        10,
        "GB of the disk that metrics and logs may fill, half each",
    )
    traces_endpoint: str = setting(
        "TELEMETRY_TRACES_ENDPOINT",
        TEXT,
        "",
        "OTLP address of a trace backend that spans are passed on to",
    )
    otlp_bridge_address: str = setting(
        "TELEMETRY_OTLP_BRIDGE_ADDRESS",
        _ADDRESS,
        "",
        "ADDRESS:PORT of this machine on which other hosts, too, may send OTLP, with the token",
    )
    demo_image: str = setting(
        "TELEMETRY_DEMO_IMAGE",
        TEXT,
        "busybox:stable",
        "what `telemetry demo` runs in its containers; any image with a shell",
    )
    admin_token: str = declared(credentials.ADMIN_TOKEN)
    grafana_password: str = declared(credentials.GRAFANA_PASSWORD)
    ports: Mapping[str, int] = declared_each(PORT_SETTINGS)
    urls: Mapping[str, str] = declared_each(URL_SETTINGS)
    child_env: Mapping[str, str] = derived(
        lambda environ: {**environ, HOME.variable: str(HOME.read(environ))}
    )

    def changed(self, **variables: str) -> StackSettings:
        """The same, with further variables in the environment."""
        return StackSettings.from_env({**self.child_env, **variables})

    def with_secrets(self) -> StackSettings:
        """The same, with the state folder's secrets, those that are missing made.

        Raises:
            TelemetryError: the state folder can't be written.
        """
        return self.changed(**credentials.ensure(self.home, self.child_env))

    @property
    def search_path(self) -> str | None:
        """Where programs are looked for."""
        return self.child_env.get("PATH")

    @property
    def store_mib(self) -> int:
        """What one of the two stores, Prometheus and Loki, may use, in MiB."""
        return self.retention_gb * 1024 // 2


@dataclass(frozen=True)
class ServiceSettings(Declared):
    """The base of the gateway's and the platform's settings: reading them makes the state
    folder's secrets where they are missing.

    Args:
        home: the state folder.
        kept: what its file of secrets holds.
    """

    home: Path = declared(HOME)
    kept: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the environment; secrets that are missing are made and kept.

        Raises:
            ConfigError: a variable has a value that can't be used.
            TelemetryError: the state folder can't be written.
        """
        kept = credentials.ensure(HOME.read(environ), environ)
        secrets = {name: kept[name] for name in credentials.GENERATED}
        return replace(super().from_env({**environ, **secrets}), kept=kept)


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
