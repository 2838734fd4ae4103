"""Write the components' configuration into the state folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from telemetry.errors import ConfigError
from telemetry.settings.stack import StackSettings
from telemetry.stack.state_folder import StateFolder
from telemetry.system import packaged_files
from telemetry.system.atomic_files import replace_file

if TYPE_CHECKING:
    from telemetry.alerting import AlertSettings

Alerting = Literal["grafana", "prometheus"]
TLS_IN_CONTAINERS = "/run/secrets"  # the folder of the certificates in the files for compose


def alerting_mode(settings: StackSettings, grafana: bool) -> Alerting:
    """Return the evaluator: TELEMETRY_ALERTING, else Grafana if it runs, else Prometheus.

    Raises:
        ConfigError: TELEMETRY_ALERTING is ``grafana``, but Grafana doesn't run.
    """
    if settings.evaluator == "grafana" and not grafana:
        raise ConfigError(
            "TELEMETRY_ALERTING", "grafana", "prometheus: no Grafana was found on this machine"
        )
    return "grafana" if grafana and settings.evaluator != "prometheus" else "prometheus"


def write_configs(
    folder: StateFolder, settings: StackSettings, alerts: AlertSettings, mode: Alerting
) -> None:
    """Render the files that the engines read when they start."""
    from telemetry.alerting import provision

    provision(mode, folder.config, alerts)
    (folder.config / "loki" / "fake").mkdir(parents=True, exist_ok=True)
    # Grafana shows dashboards even if it is not the evaluator.
    for part in ("datasources", "dashboards"):
        source = packaged_files.path(f"grafana/provisioning/{part}")
        target = folder.config / "grafana" / "provisioning" / part
        shutil.copytree(source, target, dirs_exist_ok=True)
    _write_prometheus(folder, settings, mode)
    (folder.config / "web.yaml").write_text(_read("compose/web.yaml", settings))
    write_targets(folder, {})


def _read(relative: str, settings: StackSettings) -> str:
    text = packaged_files.path(relative).read_text()
    return text.replace(TLS_IN_CONTAINERS, str(settings.tls))


def _write_prometheus(folder: StateFolder, settings: StackSettings, mode: Alerting) -> None:
    import yaml

    base: dict[str, Any] = yaml.safe_load(_read("compose/prometheus/prometheus.yaml", settings))
    ports = {**settings.ports, "collector": settings.ports["collector_metrics"]}
    alertmanager = f"127.0.0.1:{ports['alertmanager']}"
    base["rule_files"] = [str(folder.config / "prometheus" / "*.yaml")]
    base["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
    if mode == "grafana":
        del base["alerting"]
    # Scrape only the component that notifies: the other may not run, and would alert as down.
    silent = "alertmanager" if mode == "grafana" else "grafana"
    base["scrape_configs"] = [job for job in base["scrape_configs"] if job["job_name"] != silent]
    for job in base["scrape_configs"]:
        if "static_configs" in job:
            job["static_configs"][0]["targets"] = [f"127.0.0.1:{ports[job['job_name']]}"]
        else:
            job["file_sd_configs"][0]["files"] = [str(folder.targets / "*.json")]
    (folder.config / "prometheus.yaml").write_text(yaml.safe_dump(base, sort_keys=False))


def write_targets(folder: StateFolder, services: Mapping[str, int]) -> None:
    """Write Prometheus' targets: the services that should run, with the name as the job."""
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"job": name}}
        for name, port in services.items()
    ]
    replace_file(folder.targets / "stack.json", json.dumps(targets))
