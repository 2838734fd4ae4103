"""The state folder, and the configuration rendered into it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml

from telemetry.alerting import AlertSettings
from telemetry.errors import ConfigError, TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.stack.configuration import alerting_mode, write_configs, write_targets
from telemetry.stack.state_folder import StateFolder

ENVIRON = {
    "TELEMETRY_WEBHOOK_TOKEN": "hook",
    "TELEMETRY_PROMETHEUS_PORT": "19090",
    "TELEMETRY_LOKI_PORT": "13100",
    "TELEMETRY_ALERTMANAGER_PORT": "19093",
    "TELEMETRY_COLLECTOR_METRICS_PORT": "18888",
}
SETTINGS, ALERTS = StackSettings.from_env(ENVIRON), AlertSettings.from_env(ENVIRON)


def _made(home: Path) -> StateFolder:
    layout = StateFolder(home)
    layout.make()
    return layout


def test_state_folder_is_accessible_only_to_owner(tmp_path: Path) -> None:
    layout = _made(tmp_path / "deep" / "home")
    for folder in (layout.home, layout.data, layout.config, layout.output, layout.logs):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_unwritable_state_folder_is_reported() -> None:
    """Not even root can create folders in /proc."""
    with pytest.raises(TelemetryError, match=r"state folder /proc/telemetry can't be written: "):
        StateFolder(Path("/proc/telemetry")).make()


def test_state_folder_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(TelemetryError) as caught:
        StateFolder(tmp_path / "home").make()
    assert caught.value.message == f"state folder {tmp_path / 'home'} can't be written: File exists"
    assert caught.value.remedy == "set TELEMETRY_HOME to a folder that you can write"
    assert caught.value.exit_code == 73


@pytest.mark.parametrize(
    ("given", "grafana", "mode"),
    [
        ("", True, "grafana"),
        ("", False, "prometheus"),
        ("grafana", True, "grafana"),
        ("prometheus", True, "prometheus"),
    ],
)
def test_evaluator_is_as_set_or_grafana_if_it_runs(given: str, grafana: bool, mode: str) -> None:
    assert alerting_mode(StackSettings(evaluator=given), grafana) == mode


def test_chosen_but_missing_grafana_is_refused() -> None:
    with pytest.raises(ConfigError, match="no Grafana was found on this machine"):
        alerting_mode(StackSettings(evaluator="grafana"), False)


def test_prometheus_configuration_has_addresses_of_stack(tmp_path: Path) -> None:
    layout = _made(tmp_path)
    write_configs(layout, SETTINGS, ALERTS, "prometheus")
    written = yaml.safe_load((layout.config / "prometheus.yaml").read_text())
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in written["scrape_configs"]
        if "static_configs" in job
    }
    assert targets == {
        "prometheus": ["127.0.0.1:19090"],
        "collector": ["127.0.0.1:18888"],
        "loki": ["127.0.0.1:13100"],
        "alertmanager": ["127.0.0.1:19093"],
    }
    [alertmanager] = written["alerting"]["alertmanagers"]
    assert alertmanager["static_configs"] == [{"targets": ["127.0.0.1:19093"]}]
    # Prometheus shows its certificate, and takes from others only the stack's.
    tls = {
        "ca_file": str(SETTINGS.tls / "ca.pem"),
        "cert_file": str(SETTINGS.tls / "stack.pem"),
        "key_file": str(SETTINGS.tls / "stack-key.pem"),
    }
    jobs = {job["job_name"]: job for job in written["scrape_configs"]}
    for called in (alertmanager, jobs["prometheus"], jobs["loki"], jobs["alertmanager"]):
        assert (called["scheme"], called["tls_config"]) == ("https", tls)
    web = yaml.safe_load((layout.config / "web.yaml").read_text())["tls_server_config"]
    assert web["client_auth_type"] == "RequireAndVerifyClientCert"
    assert web["client_ca_file"] == tls["ca_file"]
    assert written["rule_files"] == [f"{layout.config}/prometheus/*.yaml"]
    shown = layout.config / "grafana" / "provisioning"
    assert (shown / "dashboards" / "telemetry.yaml").exists(), "Grafana may run too"
    assert (shown / "datasources" / "telemetry.yaml").exists()
    assert list((layout.config / "prometheus").glob("*.rules.yaml"))
    assert list((layout.config / "loki" / "fake").glob("*.rules.yaml"))
    services = next(job for job in written["scrape_configs"] if job["job_name"] == "services")
    assert services["file_sd_configs"][0]["files"] == [f"{layout.targets}/*.json"]


def test_rules_are_removed_from_other_evaluator(tmp_path: Path) -> None:
    """This holds for a folder in which the other evaluator was used before."""
    layout = _made(tmp_path)
    write_configs(layout, SETTINGS, ALERTS, "prometheus")
    write_configs(layout, SETTINGS, ALERTS, "grafana")
    written = yaml.safe_load((layout.config / "prometheus.yaml").read_text())
    assert "alerting" not in written
    jobs = {job["job_name"]: job for job in written["scrape_configs"]}
    assert "alertmanager" not in jobs
    # The component that sends notices counts those that fail.
    assert jobs["grafana"]["static_configs"] == [{"targets": ["127.0.0.1:3200"]}]
    assert not list((layout.config / "prometheus").glob("*.rules.yaml"))
    assert not list((layout.config / "loki" / "fake").glob("*.yaml"))
    provisioned = layout.config / "grafana" / "provisioning"
    assert sorted(path.name for path in provisioned.iterdir()) == [
        "alerting",
        "dashboards",
        "datasources",
    ]


def test_targets_are_the_given_services(tmp_path: Path) -> None:
    layout = _made(tmp_path)
    write_targets(layout, {"proxy": 18080})
    (file,) = layout.targets.iterdir()
    assert json.loads(file.read_text()) == [
        {"targets": ["127.0.0.1:18080"], "labels": {"job": "proxy"}}
    ]
