"""Write the files that the evaluator reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from telemetry.alerting.render import alertmanager, grafana, prometheus
from telemetry.alerting.rules import RETIRED, all_rules
from telemetry.alerting.settings import AlertSettings
from telemetry.errors import TelemetryError
from telemetry.system.atomic_files import replace_file

Mode = Literal["grafana", "prometheus"]

LOKI_TENANT = "fake"  # Loki's name for the tenant if multi-tenancy is off


def provision(mode: Mode, target: Path, settings: AlertSettings) -> tuple[Path, ...]:
    """Write the rules and the notification settings for ``mode`` under ``target``.

    The files of ``prometheus`` are ``prometheus/*.rules.yaml``, ``loki/fake/*.rules.yaml`` (Loki's
    ruler expects one folder per tenant), ``alertmanager.yaml`` with its ``alertmanager.tmpl``, and
    provisioning that makes Grafana delete its rules. The files of ``grafana`` are
    ``grafana/provisioning/alerting/*.yaml``. Files of the other mode are removed, so that the two
    never evaluate at the same time.

    Args:
        mode: the evaluator.
        target: a folder; created if missing.
        settings: settings from which the rules and notices are rendered.

    Returns:
        The written files, all readable by their owner only.

    Raises:
        TelemetryError: ``target`` can't be written.
    """
    links, channels = settings.links, settings.channels
    rules = all_rules(settings.thresholds)
    contents: dict[str, str] = {}
    if mode == "prometheus":
        for name, text in prometheus.rule_files(rules, links, "prometheus").items():
            contents[f"prometheus/{name}"] = text
        for name, text in prometheus.rule_files(rules, links, "loki").items():
            contents[f"loki/{LOKI_TENANT}/{name}"] = text
        contents |= alertmanager.configuration(channels)
        for name, text in grafana.no_rules(rules, RETIRED).items():
            contents[f"grafana/provisioning/alerting/{name}"] = text
    else:
        for name, text in grafana.provisioning(rules, links, channels, RETIRED).items():
            contents[f"grafana/provisioning/alerting/{name}"] = text
    return write(target, contents, mode=0o600)


# All files that `provision` may have written; those that it doesn't write now are removed.
_OURS = (
    "prometheus/*.rules.yaml",
    "loki/fake/*.rules.yaml",
    "alertmanager.yaml",
    "alertmanager.tmpl",
    "grafana/provisioning/alerting/*.yaml",
)


def write(target: Path, contents: Mapping[str, str], *, mode: int) -> tuple[Path, ...]:
    """Write ``contents`` (relative name to text) below ``target``, each file atomically, and
    remove files that an earlier rendering left there.

    Raises:
        TelemetryError: a file can't be written.
    """
    paths = []
    try:
        for pattern in _OURS:
            for stale in target.glob(pattern):
                if str(stale.relative_to(target)) not in contents:
                    stale.unlink()
        for name, text in contents.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # Running evaluators reload these files.
            replace_file(path, text, mode)
            paths.append(path)
    except OSError as error:
        raise TelemetryError(
            f"cannot write alerting files: {error.filename}: {error.strerror}",
            remedy="make the folder writable, or set TELEMETRY_HOME to another",
        ) from error
    return tuple(paths)
