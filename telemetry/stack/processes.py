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
from telemetry.stack.engines.engine import table
from telemetry.stack.state_folder import StateFolder
from telemetry.system import own_package, packaged_files

if TYPE_CHECKING:
    from telemetry.alerting.channels import Channels

SERVICES = ("proxy", "platform", "gateway")


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
    folder: StateFolder,
    settings: StackSettings,
    programs: Mapping[str, Path],
    mode: Alerting,
    channels: Channels | None = None,
) -> list[Process]:
    """The engines' processes, as their rows of engines.toml say.

    Args:
        folder: the state folder.
        settings: ports, retention and the like.
        programs: found for the engines, by name.
        mode: who evaluates the alerts.
        channels: where a Grafana that evaluates sends its mail.
    """
    own = {name: f"http://127.0.0.1:{port}" for name, port in settings.ports.items()}
    values = {
        "home": folder.home,
        "data": folder.data,
        "config": folder.config,
        "files": _Files(),
        "port": settings.ports,
        "own": own,
        "url": settings.urls,
        "days": settings.retention_days,
        "store_mib": settings.store_mib,
        "host": settings.child_env.get("HOSTNAME") or socket.gethostname(),
        "grafana_password": settings.grafana_password,
    }
    if "grafana" in programs:
        values["grafana_home"] = grafana.home_of(programs["grafana"], settings)
    found = []
    for name, engine in table().items():
        if engine.evaluator not in ("", mode) or (engine.optional and name not in programs):
            continue
        program = programs[name]
        arguments = [text.format_map(values) for text in engine.arguments]
        env = {key: text.format_map(values) for key, text in engine.env.items()}
        found.append(
            Process(
                name,
                (str(program), *_changed(name, program, arguments, settings)),
                ready=engine.ready.format_map(values),
                ports=tuple(settings.ports[port] for port in engine.ports),
                env=env | (_mail(channels) if name == "grafana" else {}),
                tier=engine.tier,
                url=engine.url.format_map(values),
                grace_s=engine.grace_s,
            )
        )
    return found


class _Files:
    """What travels with the package, by relative path."""

    def __getitem__(self, relative: str) -> Path:
        return packaged_files.path(relative)


def _changed(name: str, program: Path, arguments: list[str], settings: StackSettings) -> list[str]:
    """An engine's arguments, with what depends on more than a value."""
    if name == "collector" and settings.traces_endpoint:
        return [*arguments, f"--config={packaged_files.path('collector/traces.yaml')}"]
    if program.name == "grafana-server":
        return arguments[1:]  # before 9.4 the server was a program of its own
    return arguments


def _mail(channels: Channels | None) -> dict[str, str]:
    from telemetry.alerting.render.grafana import environment

    return environment(channels) if channels else {}


def services(folder: StateFolder, settings: StackSettings) -> list[Process]:
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
                env={"TELEMETRY_HOME": str(folder.home), "OTEL_SERVICE_NAME": name},
                tier=0,
                # Model calls and answers under way may finish: proxy 30 s, gateway 15 + 15 s.
                grace_s=40.0,
                url=f"http://127.0.0.1:{port}" + ("/admin" if name == "platform" else ""),
            )
        )
    return found
