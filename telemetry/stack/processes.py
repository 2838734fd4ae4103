"""What the stack consists of: each process as data."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telemetry.settings.stack import StackSettings
from telemetry.stack.configuration import Alerting
from telemetry.stack.engines import grafana
from telemetry.stack.state_folder import StateFolder
from telemetry.system import own_package, packaged_files

if TYPE_CHECKING:
    from telemetry.alerting.channels import Channels

SERVICES = ("proxy", "platform", "gateway")
# A line that was read is in the queue on disk before its checkpoint is written; else a kill in
# between loses it (opentelemetry-collector-contrib#35456).
COLLECTOR_FLAGS = ("--feature-gates=stanza.synchronousLogEmitter",)


@dataclass(frozen=True)
class Process:
    """A process to keep running.

    Args:
        name: as people name it.
        argv: its command.
        ready: address that answers 200 once it is ready.
        ports: that it listens on, on 127.0.0.1.
        env: on top of the supervisor's own environment.
        tier: stopped in rising order: 0 services, 1 collector, 2 stores and what reads them.
        url: for people, "" where there is nothing to look at.
        version: of the program, "" where it is ours.
        grace_s: after SIGTERM, before SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    ready: str
    ports: tuple[int, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    tier: int = 2
    url: str = ""
    version: str = ""
    grace_s: float = 10.0

    @property
    def is_service(self) -> bool:
        """Gateway, platform or proxy: they have started once they answer at all, since a platform
        without Docker is up and says so."""
        return self.tier == 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Process:
        return cls(**{**data, "argv": tuple(data["argv"]), "ports": tuple(data["ports"])})


def engines(
    layout: StateFolder,
    settings: StackSettings,
    programs: Mapping[str, Path],
    mode: Alerting,
    channels: Channels | None = None,
) -> list[Process]:
    """The engines' processes.

    Args:
        layout: the state folder.
        settings: ports, retention and the like.
        programs: found for the engines, by name.
        mode: who evaluates the alerts.
        channels: where a Grafana that evaluates sends its mail.
    """
    port = settings.ports

    def base(name: str) -> str:
        return f"http://127.0.0.1:{port[name]}"

    collector_configs = [f"--config={packaged_files.path('collector/config.yaml')}"]
    if settings.traces_endpoint:
        collector_configs.append(f"--config={packaged_files.path('collector/traces.yaml')}")
    found = [
        Process(
            "prometheus",
            (
                str(programs["prometheus"]),
                f"--config.file={layout.config / 'prometheus.yaml'}",
                f"--storage.tsdb.path={layout.data / 'prometheus'}",
                f"--storage.tsdb.retention.time={settings.retention_days}d",
                f"--storage.tsdb.retention.size={settings.store_mib}MB",
                f"--web.listen-address=127.0.0.1:{port['prometheus']}",
                "--web.enable-otlp-receiver",
                "--log.level=warn",
            ),
            ready=f"{base('prometheus')}/-/ready",
            ports=(port["prometheus"],),
            url=base("prometheus"),
        ),
        Process(
            "loki",
            (
                str(programs["loki"]),
                f"-config.file={packaged_files.path('compose/loki/loki.yaml')}",
                "-config.expand-env=true",
            ),
            ready=f"{base('loki')}/ready",
            ports=(port["loki"], port["loki_grpc"]),
            env={
                "TELEMETRY_LISTEN": "127.0.0.1",
                "TELEMETRY_LOKI_PORT": str(port["loki"]),
                "TELEMETRY_LOKI_GRPC_PORT": str(port["loki_grpc"]),
                "TELEMETRY_LOKI_DATA": str(layout.data / "loki"),
                "TELEMETRY_LOKI_RULES": str(layout.config / "loki"),
                "TELEMETRY_LOKI_RUNTIME": str(layout.loki_runtime),
                "TELEMETRY_RETENTION_DAYS": str(settings.retention_days),
                "TELEMETRY_ALERTMANAGER_URL": base("alertmanager"),
            },
            url=base("loki"),
        ),
        Process(
            "collector",
            (str(programs["collector"]), *collector_configs, *COLLECTOR_FLAGS),
            ready=f"http://127.0.0.1:{port['collector_health']}/",
            ports=(
                port["otlp_grpc"],
                port["otlp_http"],
                port["collector_metrics"],
                port["collector_health"],
            ),
            env={
                "TELEMETRY_HOME": str(layout.home),
                "TELEMETRY_COLLECTOR_DATA": str(layout.data / "collector"),
                "TELEMETRY_OTLP_HOST": "127.0.0.1",
                "TELEMETRY_OTLP_GRPC_PORT": str(port["otlp_grpc"]),
                "TELEMETRY_OTLP_HTTP_PORT": str(port["otlp_http"]),
                "TELEMETRY_COLLECTOR_METRICS_PORT": str(port["collector_metrics"]),
                "TELEMETRY_COLLECTOR_HEALTH_PORT": str(port["collector_health"]),
                "TELEMETRY_PROMETHEUS_URL": base("prometheus"),
                "TELEMETRY_LOKI_URL": base("loki"),
                "HOSTNAME": settings.child_env.get("HOSTNAME") or socket.gethostname(),
            },
            tier=1,
            url=base("otlp_http"),
            grace_s=15.0,
        ),
    ]
    if mode == "prometheus":
        found.append(
            Process(
                "alertmanager",
                (
                    str(programs["alertmanager"]),
                    f"--config.file={layout.config / 'alertmanager.yaml'}",
                    f"--storage.path={layout.data / 'alertmanager'}",
                    f"--web.listen-address=127.0.0.1:{port['alertmanager']}",
                    "--cluster.listen-address=",
                    "--log.level=warn",
                ),
                ready=f"{base('alertmanager')}/-/ready",
                ports=(port["alertmanager"],),
                url=base("alertmanager"),
            )
        )
    if "grafana" in programs:
        found.append(_grafana(layout, settings, programs["grafana"], channels))
    return found


def services(layout: StateFolder, settings: StackSettings) -> list[Process]:
    """Gateway, platform and proxy."""
    found = []
    for name in SERVICES:
        port = settings.ports[name]
        found.append(
            Process(
                name,
                own_package.command("telemetry", name),
                ready=f"http://127.0.0.1:{port}/health",
                ports=(port,),
                env={"TELEMETRY_HOME": str(layout.home), "OTEL_SERVICE_NAME": name},
                tier=0,
                # Model calls and answers under way may finish: proxy 30 s, gateway 15 + 15 s.
                grace_s=40.0,
                url=f"http://127.0.0.1:{port}" + ("/admin" if name == "platform" else ""),
            )
        )
    return found


def _grafana(
    layout: StateFolder, settings: StackSettings, program: Path, channels: Channels | None
) -> Process:
    from telemetry.alerting.render.grafana import environment as mail_environment

    port = settings.ports["grafana"]
    home = grafana.home_of(program, settings)
    # Before 9.4 the server was a program of its own; since, a subcommand.
    server = [str(program)] if program.name == "grafana-server" else [str(program), "server"]
    return Process(
        "grafana",
        (*server, f"--homepath={home}"),
        ready=f"http://127.0.0.1:{port}/api/health",
        ports=(port,),
        env={
            "GF_PATHS_DATA": str(layout.data / "grafana"),
            "GF_PATHS_LOGS": str(layout.data / "grafana" / "log"),
            "GF_PATHS_PLUGINS": str(layout.data / "grafana" / "plugins"),
            "GF_PATHS_PROVISIONING": str(layout.config / "grafana" / "provisioning"),
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": str(port),
            # What its notices' own links begin with, as a person's browser reaches it.
            "GF_SERVER_ROOT_URL": settings.urls["grafana"],
            "GF_AUTH_ANONYMOUS_ENABLED": "false",
            "GF_SECURITY_ADMIN_PASSWORD": settings.grafana_password,
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_LOG_LEVEL": "warn",
            # Where to notify is known to it only at its next look: a minute by default, in which
            # alerts go nowhere.
            "GF_UNIFIED_ALERTING_ALERTMANAGER_CONFIG_POLL_INTERVAL": "10s",
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(
                packaged_files.path("grafana/dashboards/telemetry-overview.json")
            ),
            "TELEMETRY_PROMETHEUS_URL": settings.urls["prometheus"],
            "TELEMETRY_LOKI_URL": settings.urls["loki"],
            "TELEMETRY_DASHBOARDS": str(packaged_files.path("grafana/dashboards")),
            **(mail_environment(channels) if channels else {}),
        },
        url=f"http://127.0.0.1:{port}",
    )
