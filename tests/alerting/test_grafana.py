"""Grafana's provisioning files have the documented format, field by field.

Most test machines have no Grafana, so the format is repeated here, from
https://grafana.com/docs/grafana/latest/alerting/set-up/provision-alerting-resources/file-provisioning/
and the types that read it (pkg/services/provisioning/alerting in grafana/grafana).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from telemetry.alerting.channels import Channels
from telemetry.alerting.links import Links
from telemetry.alerting.render.grafana import environment, escape, provisioning
from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from telemetry.dashboards import PANELS
from telemetry.system.units import parse_duration

ENVIRON = {
    "TELEMETRY_WEBHOOK_TOKEN": "to$ken",
    "TELEMETRY_ALERT_EMAIL_TO": "ops@example.org,night@example.org",
    "TELEMETRY_SMTP_HOST": "mail.example.org",
    "TELEMETRY_SMTP_USER": "robot@example.org",
    "TELEMETRY_SMTP_PASSWORD": "pa$$word",
    "TELEMETRY_SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/X",
    "TELEMETRY_TELEGRAM_BOT_TOKEN": "1:a-b",
    "TELEMETRY_TELEGRAM_CHAT_ID": "-1001234567890",
    "TELEMETRY_ALERT_QUIET_HOURS": "22:00-07:00",
}
RULES = all_rules(Thresholds())


def _files(environ: dict[str, str], retired: tuple[str, ...] = ()) -> dict[str, Any]:
    texts = provisioning(RULES, Links.from_env(environ), Channels.from_env(environ), retired)
    files = {name: yaml.safe_load(text) for name, text in texts.items()}
    assert {content.pop("apiVersion") for content in files.values()} == {1}
    return files


def _interpolate(text: str) -> str:
    """Interpolate a value as Grafana's values.go does: $$ is $, $NAME an environment variable."""
    return "$".join(os.path.expandvars(part) for part in text.split("$$"))


def test_rule_groups_have_the_documented_fields_and_intervals_grafana_takes() -> None:
    groups = _files(ENVIRON)["rules.yaml"]["groups"]
    for group in groups:
        assert set(group) == {"orgId", "name", "folder", "interval", "rules"}
        assert (group["orgId"], group["folder"]) == (1, "Telemetry")
        interval = parse_duration(group["interval"])
        assert interval >= 10
        assert interval % 10 == 0
    assert len({group["name"] for group in groups}) == len(groups)


def test_rules_have_the_documented_fields() -> None:
    rules = {
        rule["title"]: rule
        for group in _files(ENVIRON)["rules.yaml"]["groups"]
        for rule in group["rules"]
    }
    assert set(rules) == {rule.name for rule in RULES}
    for source in RULES:
        rule = rules[source.name]
        assert set(rule) == {
            "uid",
            "title",
            "condition",
            "data",
            "dashboardUid",
            "panelId",
            "noDataState",
            "execErrState",
            "for",
            "annotations",
            "labels",
            "isPaused",
        }
        # Grafana's limits: a uid of 40 characters of this set, a title of 190.
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", rule["uid"])
        assert (rule["dashboardUid"], rule["panelId"]) == PANELS[source.panel]
        # Grafana 9.4 does not start with an unknown state, such as KeepLast.
        assert rule["noDataState"] in ("OK", "NoData", "Alerting")
        assert rule["execErrState"] in ("OK", "Error", "Alerting")
        assert parse_duration(rule["for"]) == source.for_s
        assert rule["labels"] == {"severity": source.severity}
        assert set(rule["annotations"]) == {
            "summary",
            "description",
            "value",
            "runbook_url",
            "dashboard_url",
        }
        assert rule["isPaused"] is False


def test_conditions_are_query_reduction_threshold() -> None:
    rules = {
        rule["title"]: rule
        for group in _files(ENVIRON)["rules.yaml"]["groups"]
        for rule in group["rules"]
    }
    for source in RULES:
        rule = rules[source.name]
        query, reduction, threshold = rule["data"]
        assert [part["refId"] for part in rule["data"]] == ["A", "B", "C"]
        assert [part["model"]["refId"] for part in rule["data"]] == ["A", "B", "C"]
        assert rule["condition"] == "C"
        for part in rule["data"]:
            assert part["relativeTimeRange"] == {"from": 600, "to": 0}
            assert part["model"]["datasource"]["uid"] == part["datasourceUid"]
        assert query["datasourceUid"] == f"telemetry-{source.source}"
        assert query["model"]["expr"] == source.expression
        assert query["model"]["instant"] is True
        assert {"__expr__"} == {reduction["datasourceUid"], threshold["datasourceUid"]}
        assert {k: reduction["model"][k] for k in ("type", "expression", "reducer")} == {
            "type": "reduce",
            "expression": "A",
            "reducer": "last",
        }
        assert threshold["model"]["type"] == "threshold"
        assert threshold["model"]["expression"] == "B"
        evaluator = {
            "type": {">": "gt", "<": "lt"}[source.comparison],
            "params": [source.threshold],
        }
        assert threshold["model"]["conditions"] == [{"evaluator": evaluator}]


def test_rules_and_templates_contain_no_dollar_sign() -> None:
    texts = provisioning(RULES, Links.from_env({}), Channels.from_env(ENVIRON), ())
    assert "$" not in texts["rules.yaml"]
    assert "$" not in texts["templates.yaml"]


def test_rule_texts_use_the_reduced_value() -> None:
    text = provisioning(RULES, Links.from_env({}), Channels.from_env(ENVIRON), ())["rules.yaml"]
    assert '(index .Values "B").Value' in text
    assert not re.search(r"(?<!\))\.Value\b(?!s)", text), "`.Value` is a string in Grafana"


def test_rules_of_earlier_releases_are_deleted() -> None:
    assert "deleteRules" not in _files(ENVIRON)["rules.yaml"]
    rules = _files(ENVIRON, retired=("OldRule",))["rules.yaml"]
    assert rules["deleteRules"] == [{"orgId": 1, "uid": "telemetry-oldrule"}]


def test_contact_points_have_the_documented_fields_of_each_type() -> None:
    [point] = _files(ENVIRON)["contact-points.yaml"]["contactPoints"]
    assert (point["orgId"], point["name"]) == (1, "telemetry")
    receivers = {receiver["type"]: receiver for receiver in point["receivers"]}
    for kind, receiver in receivers.items():
        assert set(receiver) == {"uid", "type", "settings", "disableResolveMessage"}
        assert receiver["uid"] == f"telemetry-{kind}"
        assert receiver["disableResolveMessage"] is False
    assert receivers["webhook"]["settings"] == {
        "url": "http://127.0.0.1:4000/api/alert",
        "httpMethod": "POST",
        "username": "grafana",
        "password": "to$$ken",
    }
    assert receivers["email"]["settings"] == {
        "addresses": "ops@example.org;night@example.org",
        "singleEmail": True,
        "subject": '{{ template "telemetry.subject" . }}',
        "message": '{{ template "telemetry.text" . }}',
    }
    assert receivers["slack"]["settings"] == {
        "url": "https://hooks.slack.com/services/T/B/X",
        "title": '{{ template "telemetry.subject" . }}',
        "text": '{{ template "telemetry.text" . }}',
    }
    assert receivers["telegram"]["settings"] == {
        "bottoken": "1:a-b",
        "chatid": "-1001234567890",
        "message": '{{ template "telemetry.text" . }}',
        "parse_mode": "None",
    }


def test_a_dollar_in_a_secret_survives_grafanas_interpolation() -> None:
    [point] = _files(ENVIRON)["contact-points.yaml"]["contactPoints"]
    written = point["receivers"][0]["settings"]["password"]
    assert _interpolate(written) == "to$ken"
    assert _interpolate(escape("a$HOME$$b${PATH}")) == "a$HOME$$b${PATH}"


def test_a_negative_chat_id_stays_a_string() -> None:
    texts = provisioning(RULES, Links.from_env({}), Channels.from_env(ENVIRON), ())
    assert "chatid: '-1001234567890'" in texts["contact-points.yaml"]


def test_switched_off_channels_and_mute_times_are_deleted() -> None:
    files = _files({"TELEMETRY_WEBHOOK_TOKEN": "t"})
    assert files["contact-points.yaml"]["deleteContactPoints"] == [
        {"orgId": 1, "uid": uid}
        for uid in ("telemetry-email", "telemetry-slack", "telemetry-telegram")
    ]
    assert files["mute-times.yaml"] == {"deleteMuteTimes": [{"orgId": 1, "name": "quiet-hours"}]}
    assert "deleteContactPoints" not in _files(ENVIRON)["contact-points.yaml"]


def test_policies_send_criticals_immediately_and_group_warnings() -> None:
    [root] = _files(ENVIRON)["policies.yaml"]["policies"]
    routes = root.pop("routes")
    assert root["orgId"] == 1
    timings = ("group_by", "group_wait", "group_interval", "repeat_interval")
    assert set(root) == {"orgId", "receiver", *timings}
    assert {route["receiver"] for route in routes} == {"telemetry"}
    datasource, critical, warning = routes
    assert datasource["object_matchers"] == [
        ["alertname", "=~", "DatasourceError|DatasourceNoData"]
    ]
    assert critical["object_matchers"] == [["severity", "=", "critical"]]
    assert [critical[key] for key in timings] == [["..."], "0s", "1s", "4h"]
    assert warning["object_matchers"] == [["severity", "!=", "critical"]]
    assert [warning[key] for key in timings] == [
        ["alertname", "handle", "user_id", "job", "service_name"],
        "1m",
        "1m",
        "4h",
    ]
    # Only warnings are ever muted.
    assert warning["mute_time_intervals"] == ["quiet-hours"]
    assert "mute_time_intervals" not in critical | datasource | root


def test_mute_times_and_templates_have_the_documented_fields() -> None:
    files = _files(ENVIRON)
    assert files["mute-times.yaml"] == {
        "muteTimes": [
            {
                "orgId": 1,
                "name": "quiet-hours",
                "time_intervals": [
                    {
                        "times": [
                            {"start_time": "22:00", "end_time": "24:00"},
                            {"start_time": "00:00", "end_time": "07:00"},
                        ],
                        "location": "UTC",
                    }
                ],
            }
        ]
    }
    [template] = files["templates.yaml"]["templates"]
    assert set(template) == {"orgId", "name", "template"}
    assert '{{ define "telemetry.text" -}}' in template["template"]


def test_mail_server_is_set_in_grafanas_environment() -> None:
    assert environment(Channels.from_env(ENVIRON)) == {
        "GF_SMTP_ENABLED": "true",
        "GF_SMTP_HOST": "mail.example.org:587",
        "GF_SMTP_USER": "robot@example.org",
        "GF_SMTP_PASSWORD": "pa$$word",
        "GF_SMTP_FROM_ADDRESS": "robot@example.org",
        "GF_SMTP_STARTTLS_POLICY": "MandatoryStartTLS",
    }
    assert environment(Channels.from_env({"TELEMETRY_WEBHOOK_TOKEN": "t"})) == {}


def test_name_and_address_of_the_sender_are_separate_variables() -> None:
    """Grafana does not start if one variable has both."""
    named = {**ENVIRON, "TELEMETRY_SMTP_FROM": "Night Watch <watch@example.org>"}
    given = environment(Channels.from_env(named))
    assert given["GF_SMTP_FROM_ADDRESS"] == "watch@example.org"
    assert given["GF_SMTP_FROM_NAME"] == "Night Watch"


@pytest.mark.parametrize("name", ["rules.yaml", "policies.yaml"])
def test_the_committed_files_are_valid_yaml_for_grafanas_parser(name: str) -> None:
    """Without anchors and tabs, yaml.v2 reads them as we do."""
    text = (Path(__file__).parents[2] / "grafana/provisioning/alerting" / name).read_text()
    assert "\t" not in text
    assert not re.search(r"(?m)^\s*\w+: [&*]\w", text)
