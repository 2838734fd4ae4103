"""The processes of the stack as data."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telemetry.settings.stack import StackSettings, own_url
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
        name: the name in commands and output.
        argv: its command line.
        ready: address that returns 200 when the process is ready.
        ports: the ports of 127.0.0.1 that it listens on.
        env: environment variables added to those of the supervisor.
        tier: stop order, lowest first: 0 services, 1 collector, 2 stores and their readers.
        url: address for people; "" if it has no page.
        version: version of the program; "" for our own.
        grace_s: seconds between SIGTERM and SIGKILL.
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
        """Return whether this is one of our services.

        A service has started when it answers at all: a platform without Docker is up, and its
        health address reports the problem.
        """
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
    """Return the engines' processes, as engines.toml defines them.

    Args:
        folder: the state folder.
        settings: the stack's settings.
        programs: the engines' programs by name.
        mode: the evaluator.
        channels: the channels, for the mail settings of Grafana.
    """
    own = {name: own_url(name, port) for name, port in settings.ports.items()}
    values = {
        "home": folder.home,
        "data": folder.data,
        "config": folder.config,
        "files": _Files(),
        "port": settings.ports,
        "own": own,
        "url": settings.urls,
        "tls": settings.tls,
        "pem": _Texts(settings.tls),
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
                (str(program), *_adjust_arguments(name, program, arguments, settings)),
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
    """Files of the package by relative path, for ``{files[PATH]}``."""

    def __getitem__(self, relative: str) -> Path:
        return packaged_files.path(relative)


class _Texts:
    """Texts of the files of a folder by name, for ``{pem[FILE]}``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> str:
        path = self._folder / name
        return path.read_text() if path.exists() else ""


def _adjust_arguments(
    name: str, program: Path, arguments: list[str], settings: StackSettings
) -> list[str]:
    """Adjust an engine's arguments for what engines.toml can't express."""
    if name == "collector":
        optional = {"traces": settings.traces_endpoint, "auth": settings.otlp_auth == "required"}
        overlays = (f"collector/{overlay}.yaml" for overlay, wanted in optional.items() if wanted)
        return [*arguments, *(f"--config={packaged_files.path(file)}" for file in overlays)]
    if program.name == "grafana-server":
        return arguments[1:]  # before 9.4 the server was a separate program
    return arguments


def _mail(channels: Channels | None) -> dict[str, str]:
    from telemetry.alerting.render.grafana import environment

    return environment(channels) if channels else {}


def services(folder: StateFolder, settings: StackSettings) -> list[Process]:
    """Return the processes of gateway, platform and proxy."""
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
                # Time for running model calls and answers: proxy 30 s, gateway 15 + 15 s.
                grace_s=40.0,
                url=f"http://127.0.0.1:{port}" + ("/admin" if name == "platform" else ""),
            )
        )
    return found
