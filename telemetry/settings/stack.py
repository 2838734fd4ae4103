"""Settings of the stack on this machine: folders, ports, retention, evaluator, secrets."""

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
ENGINE_NAMES = ("collector", "prometheus", "loki", "alertmanager", "grafana")
TLS_ENGINES = ("prometheus", "loki", "alertmanager")
"""These know the stack by its certificates, and answer nobody else."""
OWN_SERVICES = ("gateway", "proxy", "platform", "agent", "container", "host", *ENGINE_NAMES)
"""By these names alerts and dashboards know the stack's own parts; nobody else may use them."""

# Names of the ports' services in the documentation.
_TITLES = {
    "gateway": "the gateway",
    "proxy": "the proxy",
    "platform": "the platform",
    "grafana": "Grafana",
    "prometheus": "Prometheus",
    "loki": "Loki",
    "loki_grpc": "Loki's gRPC API",
    "alertmanager": "Alertmanager",
    "otlp_grpc": "the Collector's OTLP/gRPC receiver",
    "otlp_http": "the Collector's OTLP/HTTP receiver",
    "collector_metrics": "the Collector's own metrics",
    "collector_health": "the Collector's health check",
}


def own_url(name: str, port: int) -> str:
    """Return the address of one of `PORTS` on this machine."""
    return f"{'https' if name in TLS_ENGINES else 'http'}://127.0.0.1:{port}"


def _port(name: str, default: int) -> Setting[int]:
    variable = f"TELEMETRY_{name.upper()}_PORT"
    meaning = f"port of {_TITLES[name]} on 127.0.0.1"
    return Setting(variable, whole_number(1, 65535), default, meaning)


def _url(name: str) -> Setting[str]:
    variable, port = f"TELEMETRY_{name.upper()}_URL", PORT_SETTINGS[name]
    return Setting(
        variable,
        HTTP_URL,
        own_url(name, port.default),
        f"base address of {_TITLES[name]}, if it runs elsewhere",
        otherwise=lambda environ: own_url(name, port.read(environ)),
        shown="its port on 127.0.0.1",
    )


def _below(xdg: str, usual: str, more: str) -> Callable[[Environ], Path]:
    """Make a function that finds a folder below an XDG folder, or below the home folder."""
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
    "state folder of one stack: data, configuration, logs and secrets",
    otherwise=_below("XDG_STATE_HOME", ".local/state", "telemetry"),
)
ENGINES = Setting(
    "TELEMETRY_ENGINES",
    PATH,
    Path("~/.cache/telemetry/engines"),
    "folder of the fetched and built engines, shared by all stacks",
    otherwise=_below("XDG_CACHE_HOME", ".cache", "telemetry/engines"),
)
TLS = Setting(
    "TELEMETRY_TLS",
    PATH,
    Path("~/.local/state/telemetry/tls"),
    "folder of the certificates by which Prometheus, Loki and Alertmanager know the stack: "
    "ca.pem, stack.pem and stack-key.pem",
    otherwise=lambda environ: HOME.read(environ) / "tls",
    shown="the folder tls of the state folder",
)
RETENTION_DAYS = Setting(
    "TELEMETRY_RETENTION_DAYS", whole_number(1, 3650), 15, "days to keep metrics and logs"
)
OTLP_AUTH = Setting(
    "TELEMETRY_OTLP_AUTH",
    choice("optional", "required"),
    "optional",
    "whether apps on this machine need a token for OTLP: optional or required",
)
_ADDRESS = Kind(_listening, "an address with a port, such as 172.17.0.1:4318")


@dataclass(frozen=True)
class StackSettings(Declared):
    """Settings of the commands for the stack, its alerts and the demo.

    Args:
        home: the state folder.
        ports: ports on 127.0.0.1, by the names in `PORTS`.
        urls: base addresses by the same names, without a slash at the end.
        child_env: the environment that child processes inherit: this process' own, and after
            `with_secrets` the secrets too.
    """

    home: Path = declared(HOME)
    engines: Path = declared(ENGINES)
    releases: str = setting(
        "TELEMETRY_RELEASES",
        TEXT,
        "",
        "address of a mirror of the engines' releases, with the same paths",
        shown="https://github.com, https://grafana.com",
    )
    grafana: bool = setting("TELEMETRY_GRAFANA", FLAG, True, "run Grafana if it is installed")
    grafana_home: str = setting("GRAFANA_HOME", TEXT, "", "folder of Grafana's installation")
    grafana_bin: str = setting("GRAFANA_BIN", TEXT, "", "path of Grafana's program")
    evaluator: str = setting(
        "TELEMETRY_ALERTING",
        choice("grafana", "prometheus"),
        "",
        "evaluator of the alert rules: grafana or prometheus",
        shown="grafana if it runs, else prometheus",
    )
    retention_days: int = declared(RETENTION_DAYS)
    retention_gb: int = setting(
        "TELEMETRY_RETENTION_GB",
        whole_number(1, 100_000),
        10,
        "maximum GB of disk for metrics and logs, half each",
    )
    traces_endpoint: str = setting(
        "TELEMETRY_TRACES_ENDPOINT",
        TEXT,
        "",
        "OTLP address of a trace backend, to which the Collector forwards spans",
    )
    otlp_bridge_address: str = setting(
        "TELEMETRY_OTLP_BRIDGE_ADDRESS",
        _ADDRESS,
        "",
        "further ADDRESS:PORT of this machine to accept OTLP from other hosts; requires the token",
    )
    demo_image: str = setting(
        "TELEMETRY_DEMO_IMAGE",
        TEXT,
        "busybox:stable",
        "image of the containers that `telemetry demo` starts; any image with a shell",
    )
    tls: Path = declared(TLS)
    otlp_auth: str = declared(OTLP_AUTH)
    admin_token: str = declared(credentials.ADMIN_TOKEN)
    grafana_password: str = declared(credentials.GRAFANA_PASSWORD)
    otlp_token: str = declared(credentials.OTLP_TOKEN)
    ports: Mapping[str, int] = declared_each(PORT_SETTINGS)
    urls: Mapping[str, str] = declared_each(URL_SETTINGS)
    child_env: Mapping[str, str] = derived(
        lambda environ: {**environ, HOME.variable: str(HOME.read(environ))}
    )

    def changed(self, **variables: str) -> StackSettings:
        """Return these settings with further variables in the environment."""
        return StackSettings.from_env({**self.child_env, **variables})

    def with_secrets(self) -> StackSettings:
        """Return these settings with the state folder's secrets; generate missing ones.

        Raises:
            TelemetryError: the state folder can't be written.
        """
        return self.changed(**credentials.ensure(self.home, self.child_env))

    @property
    def search_path(self) -> str | None:
        """PATH of child processes, in which programs are searched."""
        return self.child_env.get("PATH")

    @property
    def store_mib(self) -> int:
        """Disk space that each of the two stores, Prometheus and Loki, may use, in MiB."""
        return self.retention_gb * 1024 // 2


@dataclass(frozen=True)
class ServiceSettings(Declared):
    """Base of the gateway's and the platform's settings.

    Reading them generates the state folder's secrets that are missing.

    Args:
        home: the state folder.
        kept: the secrets stored in it.
    """

    home: Path = declared(HOME)
    kept: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the environment; generate and store missing secrets.

        Raises:
            ConfigError: a variable's value is invalid.
            TelemetryError: the state folder can't be written.
        """
        kept = credentials.ensure(HOME.read(environ), environ)
        secrets = {name: kept[name] for name in credentials.GENERATED}
        return replace(super().from_env({**environ, **secrets}), kept=kept)


def keep_loopback_direct(environ: MutableMapping[str, str]) -> None:
    """Exclude loopback from HTTP proxies, so that tokens never leave this machine.

    Args:
        environ: changed if it names a proxy; child processes inherit it.
    """
    if not any(name.lower().endswith("_proxy") and environ[name] for name in environ):
        return
    given = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    names = [name.strip() for name in given.split(",") if name.strip()]
    names += [name for name in ("127.0.0.1", "localhost", "::1") if name not in names]
    # Libraries differ in which of the two variables they read first.
    environ["no_proxy"] = environ["NO_PROXY"] = ",".join(names)
