"""Grafana's provisioning files for alerting.

Source: https://grafana.com/docs/grafana/latest/alerting/set-up/provision-alerting-resources/file-provisioning/
and pkg/services/provisioning/alerting of grafana/grafana. Environment variables (``$NAME``) are
interpolated in contact point settings, labels and names; in annotations by some versions only; in
a rule's queries and in templates never. So our own texts contain no ``$`` (a test checks this),
and settings that may contain one are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parseaddr
from typing import Any

from telemetry.alerting.channels import Channels
from telemetry.alerting.links import Links, texts
from telemetry.alerting.render import templates, yaml_blocks
from telemetry.alerting.render.alertmanager import quiet_interval
from telemetry.alerting.render.routing import (
    CRITICAL,
    DATASOURCE,
    QUIET_HOURS,
    RECEIVER,
    WARNING,
    Timing,
)
from telemetry.alerting.rule import Comparison, Rule, Source
from telemetry.dashboards.panel_ids import PANELS
from telemetry.system.units import format_duration

FOLDER = "Telemetry"
DATASOURCES: dict[Source, str] = {"prometheus": "telemetry-prometheus", "loki": "telemetry-loki"}
EXPRESSION = "__expr__"

_HEAD = "Rendered by `python -m telemetry.alerting`; change telemetry/alerting instead."
_ORG = 1
_MIN_INTERVAL_S = 10  # Grafana's scheduler ticks every 10 s; intervals are whole tens.
_RANGE_S = 600
_EVALUATORS: dict[Comparison, str] = {">": "gt", "<": "lt"}
_CHANNEL_UIDS = ("telemetry-webhook", "telemetry-email", "telemetry-slack", "telemetry-telegram")


def provisioning(
    rules: Iterable[Rule], links: Links, channels: Channels, retired: Iterable[str]
) -> dict[str, str]:
    """Render the files for ``provisioning/alerting``: name to content.

    Args:
        rules: all rules.
        links: base addresses of the alerts' links.
        channels: the configured channels. ``contact-points.yaml`` contains their secrets.
        retired: names of earlier releases' rules, to be deleted.
    """
    return {
        "rules.yaml": _file(_rules(rules, links, retired)),
        "contact-points.yaml": _file(_contact_points(channels)),
        "policies.yaml": _file(_policies(channels)),
        "templates.yaml": _file(
            {
                "templates": [
                    {"orgId": _ORG, "name": "telemetry", "template": templates.text_templates()}
                ]
            }
        ),
        "mute-times.yaml": _file(_mute_times(channels)),
    }


def no_rules(rules: Iterable[Rule], retired: Iterable[str]) -> dict[str, str]:
    """Render the files for a Grafana that does not evaluate: name to content.

    They delete the rules: a Grafana that evaluated before keeps them in its database, and would
    continue to evaluate them beside Prometheus.
    """
    names = (*(rule.name for rule in rules), *retired)
    gone = [{"orgId": _ORG, "uid": rule_uid(name)} for name in names]
    return {"rules.yaml": _file({"deleteRules": gone})}


def environment(channels: Channels) -> dict[str, str]:
    """Return the mail server's settings as Grafana's environment: contact points have none."""
    email = channels.email
    if email is None:
        return {}
    name, address = parseaddr(email.sender)
    return {
        "GF_SMTP_ENABLED": "true",
        "GF_SMTP_HOST": f"{email.host}:{email.port}",
        "GF_SMTP_USER": email.user,
        "GF_SMTP_PASSWORD": email.password,
        # Grafana does not start with name and address in one: "Telemetry <alerts@example.org>".
        "GF_SMTP_FROM_ADDRESS": address,
        **({"GF_SMTP_FROM_NAME": name} if name else {}),
        "GF_SMTP_STARTTLS_POLICY": "MandatoryStartTLS" if email.tls else "NoStartTLS",
    }


def rule_uid(name: str) -> str:
    """Return the uid of a rule, derived from its name so that it is stable."""
    return f"telemetry-{name.lower()}"


def escape(text: str) -> str:
    """Escape ``text`` for a field in which Grafana interpolates variables."""
    return text.replace("$", "$$")


def _file(content: dict[str, Any]) -> str:
    return yaml_blocks.dump({"apiVersion": 1, **content}, head=_HEAD)


def _rules(rules: Iterable[Rule], links: Links, retired: Iterable[str]) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {}
    for rule in rules:
        tens = -(-rule.group.interval_s // _MIN_INTERVAL_S)
        group = groups.setdefault(
            rule.group.name,
            {
                "orgId": _ORG,
                "name": rule.group.name,
                "folder": FOLDER,
                "interval": f"{tens * _MIN_INTERVAL_S}s",
                "rules": [],
            },
        )
        group["rules"].append(_rule(rule, links))
    content: dict[str, Any] = {"groups": list(groups.values())}
    gone = [{"orgId": _ORG, "uid": rule_uid(name)} for name in retired]
    return {**content, "deleteRules": gone} if gone else content


def _rule(rule: Rule, links: Links) -> dict[str, Any]:
    uid, panel = PANELS[rule.panel]
    return {
        "uid": rule_uid(rule.name),
        "title": rule.name,
        "condition": "C",
        "data": [
            _query(rule),
            # Grafana 9.4 needs the reduction even for an instant query, which it returns as a
            # series of one point. It has no effect in current versions.
            _expression("B", {"type": "reduce", "expression": "A", "reducer": "last"}),
            _expression("C", {"type": "threshold", "expression": "B", **_threshold(rule)}),
        ],
        "dashboardUid": uid,
        "panelId": panel,
        "noDataState": rule.no_data,
        "execErrState": rule.on_error,
        "for": format_duration(rule.for_s),
        # With `index`: `.Values.B` is an error while a query has no data, and leaves the raw text.
        "annotations": texts(rule, links, '(index .Values "B").Value'),
        "labels": {"severity": rule.severity},
        "isPaused": False,
    }


def _query(rule: Rule) -> dict[str, Any]:
    datasource = DATASOURCES[rule.source]
    model = {
        "refId": "A",
        "datasource": {"type": rule.source, "uid": datasource},
        "expr": rule.expression,
        "instant": True,
        "range": False,
        "intervalMs": 1000,
        "maxDataPoints": 43200,
    }
    if rule.source == "loki":
        model["queryType"] = "instant"
    return {
        "refId": "A",
        "queryType": "instant" if rule.source == "loki" else "",
        "relativeTimeRange": {"from": _RANGE_S, "to": 0},
        "datasourceUid": datasource,
        "model": model,
    }


def _expression(ref_id: str, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "refId": ref_id,
        "relativeTimeRange": {"from": _RANGE_S, "to": 0},
        "datasourceUid": EXPRESSION,
        "model": {
            "refId": ref_id,
            "datasource": {"type": EXPRESSION, "uid": EXPRESSION},
            **model,
        },
    }


def _threshold(rule: Rule) -> dict[str, Any]:
    evaluator = {"type": _EVALUATORS[rule.comparison], "params": [rule.threshold]}
    return {"conditions": [{"evaluator": evaluator}]}


def _contact_points(channels: Channels) -> dict[str, Any]:
    receivers = [_webhook(channels)]
    if channels.email:
        settings: dict[str, Any] = {
            "addresses": escape(";".join(channels.email.to)),
            "singleEmail": True,
            "subject": templates.SUBJECT,
            "message": templates.TEXT,
        }
        receivers.append(_receiver("email", settings))
    if channels.slack:
        settings = {
            "url": escape(channels.slack.url),
            "title": templates.SUBJECT,
            "text": templates.TEXT,
        }
        receivers.append(_receiver("slack", settings))
    if channels.telegram:
        settings = {
            "bottoken": escape(channels.telegram.token),
            # A string: a negative number here stops Grafana (grafana/grafana#69950).
            "chatid": str(channels.telegram.chat_id),
            "message": templates.TEXT,
            "parse_mode": "None",
        }
        receivers.append(_receiver("telegram", settings))
    on = {receiver["uid"] for receiver in receivers}
    content: dict[str, Any] = {
        "contactPoints": [{"orgId": _ORG, "name": RECEIVER, "receivers": receivers}]
    }
    # Grafana keeps the contact points of earlier files, so delete those that were switched off.
    off = [{"orgId": _ORG, "uid": uid} for uid in _CHANNEL_UIDS if uid not in on]
    return {**content, "deleteContactPoints": off} if off else content


def _receiver(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "uid": f"telemetry-{kind}",
        "type": kind,
        "settings": settings,
        "disableResolveMessage": False,
    }


def _webhook(channels: Channels) -> dict[str, Any]:
    webhook = channels.webhook
    credentials = (
        f"$__file{{{webhook.token_file}}}" if webhook.token_file else escape(webhook.token)
    )
    return _receiver(
        "webhook",
        {
            "url": escape(webhook.url),
            "httpMethod": "POST",
            # Grafana 9.4 doesn't pass a bearer token from its file to its notifier; a password
            # works in every version.
            "username": "grafana",
            "password": credentials,
        },
    )


def _policies(channels: Channels) -> dict[str, Any]:
    warning: dict[str, Any] = {
        "receiver": RECEIVER,
        "object_matchers": [["severity", "!=", "critical"]],
        **_timing(WARNING),
    }
    if channels.quiet_hours:
        warning["mute_time_intervals"] = [QUIET_HOURS]
    datasource = {
        "receiver": RECEIVER,
        "object_matchers": [["alertname", "=~", "DatasourceError|DatasourceNoData"]],
        **_timing(DATASOURCE),
    }
    critical = {
        "receiver": RECEIVER,
        "object_matchers": [["severity", "=", "critical"]],
        **_timing(CRITICAL),
    }
    root = {"orgId": _ORG, "receiver": RECEIVER, **_timing(WARNING)}
    return {"policies": [{**root, "routes": [datasource, critical, warning]}]}


def _timing(timing: Timing) -> dict[str, Any]:
    return {
        "group_by": list(timing.group_by),
        "group_wait": timing.group_wait,
        "group_interval": timing.group_interval,
        "repeat_interval": timing.repeat_interval,
    }


def _mute_times(channels: Channels) -> dict[str, Any]:
    if channels.quiet_hours:
        return {"muteTimes": [{"orgId": _ORG, **quiet_interval(channels.quiet_hours)}]}
    return {"deleteMuteTimes": [{"orgId": _ORG, "name": QUIET_HOURS}]}
