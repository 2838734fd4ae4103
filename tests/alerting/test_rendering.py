"""The committed files are the rendered ones, and the evaluators can read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from telemetry.alerting.__main__ import compose_settings, main, rendered
from telemetry.alerting.links import Links
from telemetry.alerting.render.prometheus import rule_files
from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds

TOP = Path(__file__).parents[2]
FOLDERS = (
    "compose/prometheus/rules",
    "compose/loki/rules",
    "compose/alertmanager",
    "grafana/provisioning/alerting",
    "grafana/provisioning/no-alerting",
)


def test_committed_files_are_the_rendered_ones() -> None:
    committed = {
        str(path.relative_to(TOP)): path.read_text()
        for folder in FOLDERS
        for path in sorted((TOP / folder).rglob("*"))
        if path.is_file()
    }
    assert committed == rendered(compose_settings(environment=False)), (
        "run `nox -s render` and commit"
    )


def test_rendering_twice_gives_the_same_bytes_and_removes_a_stale_group(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    stale = tmp_path / "compose/prometheus/rules/gone.rules.yaml"
    stale.write_text("groups: []\n")
    first = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p != stale}
    assert main([str(tmp_path)]) == 0
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == first


def test_option_environment_renders_the_environments_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TELEMETRY_ALERT_COST_USD", "3")
    monkeypatch.setenv("TELEMETRY_SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T/B/X")
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / "compose/alertmanager/alertmanager.yaml").read_text() == rendered(
        compose_settings(environment=False)
    )["compose/alertmanager/alertmanager.yaml"]
    assert main(["--environment", str(tmp_path)]) == 0
    configuration = tmp_path / "compose/alertmanager/alertmanager.yaml"
    assert "api_url: https://hooks.slack.com/services/T/B/X" in configuration.read_text()
    assert "url: http://gateway:4000/api/alert" in configuration.read_text()
    # Containers, which run as other users, can read them; other users of the machine can't.
    assert configuration.stat().st_mode & 0o777 == 0o644
    for closed in ("compose", "grafana/provisioning"):
        assert (tmp_path / closed).stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "compose/grafana.env").exists()
    spending = tmp_path / "compose/prometheus/rules/spending.rules.yaml"
    assert "proxy_user_cost_today_usd) > 3\n" in spending.read_text()
    capsys.readouterr()
    monkeypatch.setenv("TELEMETRY_ALERT_COST_USD", "three")
    assert main(["--environment", str(tmp_path)]) == 78
    assert capsys.readouterr().err.startswith("error: TELEMETRY_ALERT_COST_USD='three' is not")


def test_compose_passes_the_mail_server_to_grafana(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEMETRY_ALERT_EMAIL_TO", "ops@example.org")
    monkeypatch.setenv("TELEMETRY_SMTP_HOST", "mail.example.org")
    monkeypatch.setenv("TELEMETRY_SMTP_USER", "robot@example.org")
    monkeypatch.setenv("TELEMETRY_SMTP_PASSWORD", "p$w'\"")
    assert main(["--environment", str(tmp_path)]) == 0
    mail = tmp_path / "compose/grafana.env"
    assert "GF_SMTP_HOST=mail.example.org:587\n" in mail.read_text()
    assert "GF_SMTP_PASSWORD=p$w'\"\n" in mail.read_text()
    assert mail.stat().st_mode & 0o777 == 0o600
    compose = yaml.safe_load((TOP / "compose/compose.yaml").read_text())
    assert compose["services"]["grafana"]["env_file"] == [
        {"path": "grafana.env", "required": False, "format": "raw"}
    ]
    assert main([str(tmp_path)]) == 0
    assert not mail.exists()


def test_no_secret_is_committed() -> None:
    """Alertmanager and Grafana read the token from a mounted secret."""
    credentials = [
        line.split(": ", 1)
        for text in rendered(compose_settings(environment=False)).values()
        for line in re.findall(r"(?m)^\s*(\w*(?:credentials|token|password)\w*: .*)$", text)
    ]
    secret = "/run/secrets/telemetry_webhook_token"
    assert sorted(credentials) == [
        ["credentials_file", secret],
        ["password", f"$__file{{{secret}}}"],
    ]


def _rules(source: Any) -> list[dict[str, Any]]:
    files = rule_files(all_rules(Thresholds()), Links.from_env({}), source)
    return [
        rule
        for text in files.values()
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    ]


def test_each_rule_is_rendered_for_the_store_it_queries() -> None:
    assert len(_rules("prometheus")) == 14
    assert [rule["alert"] for rule in _rules("loki")] == ["ErrorLogBurst"]


def test_rule_file_is_complete() -> None:
    files = rule_files(all_rules(Thresholds()), Links.from_env({}), "prometheus")
    [group] = yaml.safe_load(files["spending.rules.yaml"])["groups"]
    assert (group["name"], group["interval"]) == ("spending", "10s")
    assert group["rules"][0] == {
        "alert": "HighCostRate",
        "expr": "max by (user_id) (proxy_user_cost_today_usd) > 10",
        "for": "0s",
        "labels": {"severity": "warning"},
        "annotations": {
            "summary": "{{ .Labels.user_id }} has high costs today",
            "description": "Model calls of {{ .Labels.user_id }} have cost "
            '{{ printf "%.2f" .Value }} USD since midnight UTC, more than 10 USD.',
            "value": '{{ printf "%.2f" .Value }} USD today',
            "runbook_url": "http://127.0.0.1:4000/runbooks#highcostrate",
            "dashboard_url": "http://127.0.0.1:3200/d/telemetry-cost?viewPanel=15&from=now-6h&to=now"
            '&var-user_id={{ index .Labels "user_id" | urlquery }}',
        },
    }


def test_container_events_are_a_separate_group_evaluated_every_second() -> None:
    files = rule_files(all_rules(Thresholds()), Links.from_env({}), "prometheus")
    [group] = yaml.safe_load(files["container-events.rules.yaml"])["groups"]
    assert group["interval"] == "1s"
    assert [rule["alert"] for rule in group["rules"]] == ["ContainerDown", "ContainerOOMKilled"]


def test_links_follow_the_environment() -> None:
    environ = {
        "TELEMETRY_GRAFANA_URL": "https://grafana.example.org/",
        "TELEMETRY_ALERT_RUNBOOK_URL": "https://wiki.example.org/runbooks",
    }
    links = Links.from_env(environ)
    rule = next(rule for rule in all_rules(Thresholds()) if rule.name == "ContainerDown")
    assert links.runbook(rule) == "https://wiki.example.org/runbooks#containerdown"
    assert links.dashboard(rule, {"handle": "a b&c"}) == (
        "https://grafana.example.org/d/telemetry-container?viewPanel=14&var-handle=a+b%26c"
    )
