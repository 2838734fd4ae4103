"""The state folder: what stands where, and the configuration the engines are started with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from telemetry.alerting import AlertSettings, provision
from telemetry.errors import ConfigError, TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.system import packaged_files
from telemetry.system.atomic_files import replace_file

Alerting = Literal["grafana", "prometheus"]
# Stands in a process' output where a run of it begins.
STARTED = "=== started"


@dataclass(frozen=True)
class Layout:
    """Folders of one stack.

    Args:
        home: the state folder.
    """

    home: Path

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def config(self) -> Path:
        return self.home / "config"

    @property
    def output(self) -> Path:
        """What the processes print, one rotated file each."""
        return self.home / "output"

    @property
    def logs(self) -> Path:
        """The interaction log, which the collector reads."""
        return self.home / "logs"

    @property
    def targets(self) -> Path:
        """Prometheus' target files: who is meant to run."""
        return self.home / "targets"

    @property
    def loki_runtime(self) -> Path:
        """What Loki reads again while it runs: the retention that its share of the disk allows."""
        return self.config / "loki-runtime.yaml"

    @property
    def processes(self) -> Path:
        """What the supervisor is to run, as JSON."""
        return self.home / "processes.json"

    @property
    def pids(self) -> Path:
        """Process groups that the supervisor started, by name, as JSON."""
        return self.home / "pids.json"

    @property
    def socket(self) -> Path:
        """The supervisor's control socket."""
        return self.home / "supervisor.sock"

    @property
    def lock(self) -> Path:
        """Held by the supervisor while it lives; holds its process id."""
        return self.home / "supervisor.lock"

    def make(self) -> None:
        """Make all folders, for the owner only.

        Raises:
            TelemetryError: one can't be made or written.
        """
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.data, self.config, self.output, self.logs, self.targets):
                folder.mkdir(exist_ok=True, mode=0o700)
            for name in ("prometheus", "loki", "alertmanager", "collector", "grafana"):
                (self.data / name).mkdir(exist_ok=True, mode=0o700)
            probe = self.home / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise TelemetryError(
                f"state folder {self.home} can't be written: {error.strerror or error}",
                remedy="set TELEMETRY_HOME to a folder of yours",
                exit_code=73,  # EX_CANTCREAT
            ) from error


def alerting_mode(settings: StackSettings, grafana: bool) -> Alerting:
    """Who evaluates the alert rules: TELEMETRY_ALERTING, else Grafana where one runs.

    Raises:
        ConfigError: Grafana should, and none runs.
    """
    if settings.evaluator == "grafana" and not grafana:
        raise ConfigError("TELEMETRY_ALERTING", "grafana", "prometheus: no Grafana was found here")
    return "grafana" if grafana and settings.evaluator != "prometheus" else "prometheus"


def write_configs(
    layout: Layout, settings: StackSettings, alerts: AlertSettings, mode: Alerting
) -> None:
    """Render everything the engines read at their start."""
    provision(mode, layout.config, alerts)
    (layout.config / "loki" / "fake").mkdir(parents=True, exist_ok=True)
    # A Grafana that doesn't evaluate shows all the same.
    for part in ("datasources", "dashboards"):
        source = packaged_files.path(f"grafana/provisioning/{part}")
        target = layout.config / "grafana" / "provisioning" / part
        shutil.copytree(source, target, dirs_exist_ok=True)
    _write_prometheus(layout, settings, mode)
    write_targets(layout, {})


def _write_prometheus(layout: Layout, settings: StackSettings, mode: Alerting) -> None:
    import yaml

    base: dict[str, Any] = yaml.safe_load(
        packaged_files.path("compose/prometheus/prometheus.yaml").read_text()
    )
    ports = settings.ports
    alertmanager = f"127.0.0.1:{ports['alertmanager']}"
    addresses = {
        "prometheus": f"127.0.0.1:{ports['prometheus']}",
        "collector": f"127.0.0.1:{ports['collector_metrics']}",
        "loki": f"127.0.0.1:{ports['loki']}",
        "alertmanager": alertmanager,
        "grafana": f"127.0.0.1:{ports['grafana']}",
    }
    base["rule_files"] = [str(layout.config / "prometheus" / "*.yaml")]
    base["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
    if mode == "grafana":
        del base["alerting"]
    # Only who notifies is asked: as a target the other may be down for good, and alerted.
    silent = "alertmanager" if mode == "grafana" else "grafana"
    base["scrape_configs"] = [job for job in base["scrape_configs"] if job["job_name"] != silent]
    for job in base["scrape_configs"]:
        if job["job_name"] in addresses:
            job["static_configs"][0]["targets"] = [addresses[job["job_name"]]]
        else:
            job["file_sd_configs"][0]["files"] = [str(layout.targets / "*.json")]
    (layout.config / "prometheus.yaml").write_text(yaml.safe_dump(base, sort_keys=False))


def write_targets(layout: Layout, services: Mapping[str, int]) -> None:
    """Tell Prometheus which services are meant to run: their name is the job."""
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"job": name}}
        for name, port in services.items()
    ]
    replace_file(layout.targets / "stack.json", json.dumps(targets))
