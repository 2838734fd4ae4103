"""Write what the evaluator in charge reads."""

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

LOKI_TENANT = "fake"  # What Loki calls the only tenant where it has none.


def provision(mode: Mode, target: Path, settings: AlertSettings) -> tuple[Path, ...]:
    """Write the rules and the notification settings for ``mode`` under ``target``.

    ``prometheus``: ``prometheus/*.rules.yaml``, ``loki/fake/*.rules.yaml`` (Loki's ruler
    wants a folder a tenant; "fake" is the one of a Loki without tenants), ``alertmanager.yaml`` and
    its ``alertmanager.tmpl``, and what has a Grafana delete the rules it had. ``grafana``:
    ``grafana/provisioning/alerting/*.yaml``. What the other mode left there is removed, so that
    never both evaluate.

    Args:
        mode: who evaluates.
        target: a folder; made where missing.
        settings: what the rules and notices are rendered from.

    Returns:
        The files written, all readable by their owner only.

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


# Everything a rendering may have written; what is not written now is removed.
_OURS = (
    "prometheus/*.rules.yaml",
    "loki/fake/*.rules.yaml",
    "alertmanager.yaml",
    "alertmanager.tmpl",
    "grafana/provisioning/alerting/*.yaml",
)


def write(target: Path, contents: Mapping[str, str], *, mode: int) -> tuple[Path, ...]:
    """Write ``contents`` (relative name to text) under ``target``, each file whole or not at all,
    and remove what an earlier rendering left there.

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
            # The evaluators read these again while they run.
            replace_file(path, text, mode)
            paths.append(path)
    except OSError as error:
        raise TelemetryError(
            f"cannot write alerting files: {error.filename}: {error.strerror}",
            remedy="make the folder writable, or set TELEMETRY_HOME to another",
        ) from error
    return tuple(paths)
