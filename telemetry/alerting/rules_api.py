"""Client of the evaluators' APIs: states of the rules, firing alerts, silences.

Prometheus, Loki's ruler and Grafana have the same `/api/v1/rules`, and Grafana has Alertmanager's
API for silences.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/#rules and
https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import base64
import http
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.system import json_http
from telemetry.system.json_http import AnswerError

_NO_ENTRY = (
    "set TELEMETRY_GRAFANA_PASSWORD to the password of Grafana's user admin, or "
    "TELEMETRY_ALERTING=prometheus if Alertmanager sends the notices"
)
_SIGNS = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}


@dataclass(frozen=True)
class Instance:
    """One alert that is pending or firing.

    Args:
        labels: labels that identify it, without name and severity.
        firing: False while it is pending.
        since: time since which its condition holds.
        value: the current value, formatted by its rule.
    """

    labels: Mapping[str, str]
    firing: bool
    since: datetime
    value: str


@dataclass(frozen=True)
class RuleState:
    """A rule as its evaluator sees it.

    Args:
        name: the alert's name.
        severity: its severity.
        evaluator: ``prometheus``, ``loki`` or ``grafana``.
        error: why its evaluation failed; empty if it didn't.
        instances: its current alerts.
    """

    name: str
    severity: str
    evaluator: str
    error: str
    instances: tuple[Instance, ...]

    @property
    def state(self) -> str:
        """``failing``, ``firing``, ``pending`` or ``ok``."""
        if self.error:
            return "failing"
        if any(instance.firing for instance in self.instances):
            return "firing"
        return "pending" if self.instances else "ok"


@dataclass(frozen=True)
class Silence:
    """An active or future silence.

    Args:
        id: the id to end it by.
        matchers: ``name=value`` of the silenced alerts; one made in a browser may have ``!=``,
            ``=~`` or ``!~``, as in PromQL.
        until: end time.
        comment: the reason.
    """

    id: str
    matchers: tuple[str, ...]
    until: datetime
    comment: str


def rule_states(settings: StackSettings) -> tuple[RuleState, ...]:
    """Read every loaded rule with its current alerts, from all evaluators.

    Raises:
        TelemetryError: no evaluator answers, or none has rules.
    """
    states: list[RuleState] = []
    failures: list[TelemetryError] = []
    for evaluator, url in (
        ("prometheus", settings.urls["prometheus"] + "/api/v1/rules?type=alert"),
        ("loki", settings.urls["loki"] + "/prometheus/api/v1/rules?type=alert"),
        ("grafana", _grafana_rules(settings)),
    ):
        try:
            answer = _request(url, settings)
        except TelemetryError as error:
            failures.append(error)
            continue
        for group in answer["data"]["groups"]:
            states += [_state(rule, evaluator) for rule in group["rules"]]
    if not states:
        raise (
            failures[0]
            if failures
            else TelemetryError(
                "no alert rules are loaded: Prometheus, Loki and Grafana answer, but have none",
                remedy="run `telemetry doctor` to see which evaluator should have them",
            )
        )
    return tuple(states)


def silences(settings: StackSettings) -> tuple[Silence, ...]:
    """Read the silences that have not expired, by end time.

    Raises:
        TelemetryError: Grafana (if it evaluates) or Alertmanager does not answer.
    """
    found = _request(f"{_alertmanager(settings)}/silences", settings)
    current = [
        Silence(
            id=entry["id"],
            matchers=tuple(
                f"{m['name']}{_SIGNS[m.get('isEqual', True), m['isRegex']]}{m['value']}"
                for m in entry["matchers"]
            ),
            until=_time(entry["endsAt"]),
            comment=entry["comment"],
        )
        for entry in found
        if entry["status"]["state"] != "expired"
    ]
    return tuple(sorted(current, key=lambda silence: silence.until))


def silence(
    matchers: Mapping[str, str],
    duration: timedelta,
    comment: str,
    author: str,
    settings: StackSettings,
) -> str:
    """Silence the alerts that have all these labels.

    Args:
        matchers: label to value; the alert's name is ``alertname``.
        duration: length, from now.
        comment: the reason.
        author: the user's name.
        settings: addresses and Grafana's password.

    Returns:
        The silence's id.

    Raises:
        TelemetryError: Grafana (if it evaluates) or Alertmanager refuses or does not answer.
    """
    now = datetime.now(UTC)
    body = {
        "matchers": [
            {"name": name, "value": value, "isRegex": False, "isEqual": True}
            for name, value in matchers.items()
        ],
        "startsAt": now.isoformat(),
        "endsAt": (now + duration).isoformat(),
        "createdBy": author,
        "comment": comment,
    }
    answer = _request(f"{_alertmanager(settings)}/silences", settings, body=body)
    return str(answer["silenceID"])


def end_silence(silence_id: str, settings: StackSettings) -> None:
    """End a silence now.

    Raises:
        TelemetryError: there is no silence with this id, or no answer.
    """
    if silence_id not in {silence.id for silence in silences(settings)}:
        raise TelemetryError(
            f"there is no active silence {silence_id}",
            remedy="run `telemetry alerts silence` to list the silences",
        )
    _request(f"{_alertmanager(settings)}/silence/{silence_id}", settings, method="DELETE")


def _state(rule: Mapping[str, Any], evaluator: str) -> RuleState:
    instances = []
    for alert in rule.get("alerts") or ():
        state = alert["state"].lower().split(" ")[0]  # Grafana: "Alerting (NoData)".
        if state not in ("firing", "alerting", "pending", "nodata", "error"):
            continue
        labels = {
            name: value
            for name, value in alert["labels"].items()
            if name not in ("alertname", "severity", "grafana_folder")
        }
        value = alert.get("annotations", {}).get("value") or str(alert.get("value", ""))
        firing = state != "pending"
        instances.append(Instance(labels, firing, _time(alert["activeAt"]), value))
    return RuleState(
        name=rule["name"],
        severity=rule.get("labels", {}).get("severity", ""),
        evaluator=evaluator,
        error=rule.get("lastError", "") if rule.get("health") in ("err", "error") else "",
        instances=tuple(instances),
    )


def _time(text: str) -> datetime:
    # Go writes up to nanoseconds; Python 3.11 reads exactly three or six digits.
    return datetime.fromisoformat(re.sub(r"\.\d+", "", text))


class _Status(TelemetryError):
    """A request without a successful answer.

    Args:
        message: the address and the error.
        status: HTTP status; 0 if there was no answer.
        remedy: what to do about it.
    """

    def __init__(self, message: str, status: int, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


def _alertmanager(settings: StackSettings) -> str:
    # Only the evaluator's silences count, and an idle Alertmanager may run beside Grafana.
    given = settings.evaluator
    if given == "grafana" or (given != "prometheus" and _grafana_evaluates(settings)):
        return settings.urls["grafana"] + "/api/alertmanager/grafana/api/v2"
    return settings.urls["alertmanager"] + "/api/v2"


def _grafana_evaluates(settings: StackSettings) -> bool:
    # A Grafana that only shows dashboards may have other rules.
    ours = {rule.name for rule in all_rules(Thresholds())}
    try:
        answer = _request(_grafana_rules(settings), settings)
    except _Status as error:
        # No Grafana runs there, or its alerting is switched off.
        if error.status < 400 or error.status == http.HTTPStatus.NOT_FOUND:
            return False
        raise
    return any(
        rule["name"] in ours for group in answer["data"]["groups"] for rule in group["rules"]
    )


def _grafana_rules(settings: StackSettings) -> str:
    return settings.urls["grafana"] + "/api/prometheus/grafana/api/v1/rules"


def _request(
    url: str,
    settings: StackSettings,
    *,
    body: Mapping[str, Any] | None = None,
    method: str | None = None,
) -> Any:
    headers = {}
    password = settings.grafana_password
    is_grafana = url.startswith(settings.urls["grafana"] + "/")
    if password and is_grafana:
        credentials = base64.b64encode(f"admin:{password}".encode()).decode()
        headers["authorization"] = f"Basic {credentials}"
    try:
        return json_http.send(url, body, method=method, headers=headers, tls=settings.tls).json()
    except AnswerError as error:
        if is_grafana and error.status in (401, 403):
            remedy = _NO_ENTRY
        elif not error.status:
            remedy = "run `telemetry status` to see what runs, and `telemetry up` to start the rest"
        else:
            remedy = ""
        raise _Status(f"{url} {error}", error.status, remedy) from None
