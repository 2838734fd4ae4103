"""`telemetry up` writes the evaluators' files: only the needed ones, readable by the owner only."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from telemetry.alerting.render.write import provision
from telemetry.alerting.rules import all_rules
from telemetry.alerting.settings import AlertSettings
from telemetry.alerting.thresholds import Thresholds
from telemetry.errors import TelemetryError

ENVIRON = {"TELEMETRY_WEBHOOK_TOKEN": "webhook-secret"}


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


PROMETHEUS = {
    "prometheus/container-events.rules.yaml",
    "prometheus/containers.rules.yaml",
    "prometheus/services.rules.yaml",
    "prometheus/spending.rules.yaml",
    "prometheus/pipeline.rules.yaml",
    "loki/fake/logs.rules.yaml",
    "alertmanager.yaml",
    "alertmanager.tmpl",
    "grafana/provisioning/alerting/rules.yaml",  # deletes Grafana's rules
}
GRAFANA = {
    f"grafana/provisioning/alerting/{name}.yaml"
    for name in ("rules", "contact-points", "policies", "templates", "mute-times")
}


def test_each_mode_writes_its_files_and_removes_the_others(tmp_path: Path) -> None:
    own = tmp_path / "prometheus.yaml"
    own.write_text("not ours")
    written = provision("prometheus", tmp_path, AlertSettings.from_env(ENVIRON))
    assert {str(path.relative_to(tmp_path)) for path in written} == PROMETHEUS
    assert _names(tmp_path) == PROMETHEUS | {"prometheus.yaml"}
    provision("grafana", tmp_path, AlertSettings.from_env(ENVIRON))
    assert _names(tmp_path) == GRAFANA | {"prometheus.yaml"}, "never both"
    provision("prometheus", tmp_path, AlertSettings.from_env(ENVIRON))
    assert _names(tmp_path) == PROMETHEUS | {"prometheus.yaml"}
    deletion = yaml.safe_load((tmp_path / "grafana/provisioning/alerting/rules.yaml").read_text())
    assert set(deletion) == {"apiVersion", "deleteRules"}
    assert {row["uid"] for row in deletion["deleteRules"]} == {
        f"telemetry-{rule.name.lower()}" for rule in all_rules(Thresholds())
    }


@pytest.mark.parametrize("mode", ["prometheus", "grafana"])
def test_files_are_readable_by_their_owner_only(mode: str, tmp_path: Path) -> None:
    secret = False
    for path in provision(mode, tmp_path, AlertSettings.from_env(ENVIRON)):  # type: ignore[arg-type]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        secret = secret or "webhook-secret" in path.read_text()
    assert secret, "the evaluator needs the token"


def test_file_readable_by_others_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    path = tmp_path / "alertmanager.yaml"
    path.write_text("old")
    path.chmod(0o644)
    provision("prometheus", tmp_path, AlertSettings.from_env(ENVIRON))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_invalid_setting_writes_nothing(tmp_path: Path) -> None:
    for broken in (
        {},
        {**ENVIRON, "TELEMETRY_ALERT_COST_USD": "ten"},
        {**ENVIRON, "TELEMETRY_TELEGRAM_BOT_TOKEN": "1:a"},
    ):
        with pytest.raises(TelemetryError):
            provision("prometheus", tmp_path, AlertSettings.from_env(broken))
    assert _names(tmp_path) == set()


def test_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TelemetryError, match=r"cannot write alerting files: .*/file") as error:
        provision("prometheus", tmp_path / "file", AlertSettings.from_env(ENVIRON))
    assert "TELEMETRY_HOME" in error.value.remedy
