"""`telemetry alerts` reads the answers of each evaluator, and names an unreachable one."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from telemetry.alerting import rules_api, terminal
from telemetry.alerting.rules_api import Instance, RuleState
from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from tests.alerting.receivers import http_receiver

UNREACHABLE = "http://127.0.0.1:9"
# Grafana's answer, with its own names of the states, a folder label and nanoseconds.
GRAFANA = {
    "status": "success",
    "data": {
        "groups": [
            {
                "name": "container-events",
                "rules": [
                    {
                        "name": "ContainerDown",
                        "state": "firing",
                        "health": "ok",
                        "labels": {"severity": "critical"},
                        "alerts": [
                            {
                                "labels": {
                                    "alertname": "ContainerDown",
                                    "grafana_folder": "Telemetry",
                                    "severity": "critical",
                                    "handle": "demo-1",
                                },
                                "annotations": {"value": "down"},
                                "state": "Alerting (NoData)",
                                "activeAt": "2026-01-02T03:04:05.123456789Z",
                                "value": "0e+00",
                            },
                            {
                                "labels": {"handle": "demo-2"},
                                "state": "Normal",
                                "activeAt": "0001-01-01T00:00:00Z",
                                "value": "",
                            },
                        ],
                    },
                    {
                        "name": "HighCostRate",
                        "state": "inactive",
                        "health": "error",
                        "lastError": "dial tcp 127.0.0.1:9090: connection refused",
                        "labels": {"severity": "warning"},
                    },
                ],
            }
        ]
    },
}


def _environ(grafana: str) -> dict[str, str]:
    return {
        "TELEMETRY_PROMETHEUS_URL": UNREACHABLE,
        "TELEMETRY_LOKI_URL": UNREACHABLE,
        "TELEMETRY_ALERTMANAGER_URL": UNREACHABLE,
        "TELEMETRY_GRAFANA_URL": grafana,
        "TELEMETRY_GRAFANA_PASSWORD": "grafana-secret",
    }


def test_grafanas_rules_are_read_with_its_password() -> None:
    with http_receiver(json.dumps(GRAFANA).encode()) as grafana:
        states = rules_api.rule_states(StackSettings.from_env(_environ(grafana.url)))
    [request] = grafana.requests
    assert request.path == "/api/prometheus/grafana/api/v1/rules"
    credentials = base64.b64encode(b"admin:grafana-secret").decode()
    assert request.headers["Authorization"] == f"Basic {credentials}"
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert states == (
        RuleState(
            name="ContainerDown",
            severity="critical",
            evaluator="grafana",
            error="",
            instances=(Instance({"handle": "demo-1"}, True, since, "down"),),
        ),
        RuleState(
            name="HighCostRate",
            severity="warning",
            evaluator="grafana",
            error="dial tcp 127.0.0.1:9090: connection refused",
            instances=(),
        ),
    )
    assert [state.state for state in states] == ["firing", "failing"]


def test_the_password_goes_to_grafana_only() -> None:
    with http_receiver(b'{"data": {"groups": []}}') as prometheus:
        environ = {**_environ(UNREACHABLE), "TELEMETRY_PROMETHEUS_URL": prometheus.url}
        with pytest.raises(TelemetryError):
            rules_api.rule_states(StackSettings.from_env(environ))
    assert "Authorization" not in prometheus.requests[0].headers


def test_unreachable_evaluators_are_an_error_with_a_remedy() -> None:
    for ask in (rules_api.rule_states, rules_api.silences):
        with pytest.raises(TelemetryError, match=f"{UNREACHABLE}.* does not answer") as error:
            ask(StackSettings.from_env(_environ(UNREACHABLE)))
        assert "telemetry up" in error.value.remedy


def test_evaluators_without_rules_are_an_error_too() -> None:
    with http_receiver(b'{"data": {"groups": []}}') as empty:
        environ = {
            key: empty.url if key.endswith("_URL") else value
            for key, value in _environ(UNREACHABLE).items()
        }
        with pytest.raises(TelemetryError, match="no alert rules are loaded"):
            rules_api.rule_states(StackSettings.from_env(environ))


def test_answer_that_is_not_json_is_an_error() -> None:
    with (
        http_receiver(b"<html>log in</html>") as page,
        pytest.raises(TelemetryError, match="answered something that is not JSON"),
    ):
        rules_api.silences(
            StackSettings.from_env(
                {**_environ(UNREACHABLE), "TELEMETRY_ALERTMANAGER_URL": page.url}
            )
        )


def test_silence_goes_to_grafana_if_it_evaluates_not_to_an_idle_alertmanager() -> None:
    answer = json.dumps({**GRAFANA, "silenceID": "abc"}).encode()
    with http_receiver(answer) as grafana, http_receiver(b"[]") as idle:
        matchers = {"alertname": "ContainerDown", "handle": "demo-1"}
        environ = {**_environ(grafana.url), "TELEMETRY_ALERTMANAGER_URL": idle.url}
        identity = rules_api.silence(
            matchers, timedelta(hours=2), "moving", "me", StackSettings.from_env(environ)
        )
    assert not idle.requests
    assert identity == "abc"
    posted = grafana.requests[-1]
    assert posted.path == "/api/alertmanager/grafana/api/v2/silences"
    starts, ends = (datetime.fromisoformat(posted.body[key]) for key in ("startsAt", "endsAt"))
    assert ends - starts == timedelta(hours=2)
    assert posted.body["matchers"] == [
        {"name": "alertname", "value": "ContainerDown", "isRegex": False, "isEqual": True},
        {"name": "handle", "value": "demo-1", "isRegex": False, "isEqual": True},
    ]
    assert (posted.body["createdBy"], posted.body["comment"]) == ("me", "moving")


OTHERS_RULES = {"data": {"groups": [{"name": "shop", "rules": [{"name": "TooFewOrders"}]}]}}


@pytest.mark.parametrize(
    ("status", "rules"),
    [(200, {"data": {"groups": []}}), (200, OTHERS_RULES), (404, {"message": "not found"})],
)
def test_silence_goes_to_alertmanager_if_grafana_does_not_evaluate(
    status: int, rules: object
) -> None:
    with http_receiver(json.dumps(rules).encode()) as shows, http_receiver(b"[]") as alertmanager:
        shows.status = status
        environ = {**_environ(shows.url), "TELEMETRY_ALERTMANAGER_URL": alertmanager.url}
        assert rules_api.silences(StackSettings.from_env(environ)) == ()
    assert [request.path for request in alertmanager.requests] == ["/api/v2/silences"]


@pytest.mark.parametrize("status", [401, 403])
def test_grafana_that_refuses_the_log_in_is_an_error_and_alertmanager_gets_no_silence(
    status: int,
) -> None:
    with http_receiver(b'{"message": "Unauthorized"}') as grafana, http_receiver(b"[]") as idle:
        grafana.status = status
        environ = {**_environ(grafana.url), "TELEMETRY_ALERTMANAGER_URL": idle.url}
        for ask in (
            lambda: rules_api.silence(
                {"a": "b"}, timedelta(hours=2), "", "me", StackSettings.from_env(environ)
            ),
            lambda: rules_api.silences(StackSettings.from_env(environ)),
            lambda: rules_api.end_silence("abc", StackSettings.from_env(environ)),
        ):
            with pytest.raises(TelemetryError, match=f"rules answered {status}") as error:
                ask()
            assert "TELEMETRY_GRAFANA_PASSWORD" in error.value.remedy
            assert "TELEMETRY_ALERTING" in error.value.remedy
    assert not idle.requests


@pytest.mark.parametrize("mode", ["grafana", "prometheus"])
def test_configured_evaluator_is_not_detected(mode: str) -> None:
    with http_receiver(b"[]") as grafana, http_receiver(b"[]") as alertmanager:
        environ = {
            **_environ(grafana.url),
            "TELEMETRY_ALERTMANAGER_URL": alertmanager.url,
            "TELEMETRY_ALERTING": mode,
        }
        assert rules_api.silences(StackSettings.from_env(environ)) == ()
    asked = [request.path for request in (*grafana.requests, *alertmanager.requests)]
    grafanas = "/api/alertmanager/grafana/api/v2/silences"
    assert asked == [grafanas if mode == "grafana" else "/api/v2/silences"]


def test_matchers_of_a_silence_from_the_browser_are_shown() -> None:
    matchers = [
        {"name": name, "value": "x", "isEqual": equal, "isRegex": regex}
        for name, equal, regex in (
            ("a", True, False),
            ("b", False, False),
            ("c", True, True),
            ("d", False, True),
        )
    ]
    made = {
        "id": "abc",
        "matchers": matchers,
        "endsAt": "2026-01-02T03:04:05.123Z",
        "comment": "",
        "status": {"state": "active"},
    }
    with http_receiver(json.dumps([made]).encode()) as alertmanager:
        environ = {**_environ(UNREACHABLE), "TELEMETRY_ALERTMANAGER_URL": alertmanager.url}
        [shown] = rules_api.silences(StackSettings.from_env(environ))
    assert shown.matchers == ("a=x", "b!=x", "c=~x", "d!~x")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (3661, "1h 1m"), (90061, "1d 1h")]
)
def test_age_has_at_most_two_units(seconds: int, text: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert terminal.age(now - timedelta(seconds=seconds), now) == text


def test_firing_and_failing_rules_are_listed_first(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    fires = Instance({"handle": "demo-1"}, True, now - timedelta(minutes=2), "down")
    terminal.print_rules(
        [
            RuleState("A", "warning", "prometheus", "", ()),
            RuleState("B", "warning", "loki", "no such store", ()),
            RuleState("C", "critical", "prometheus", "", (fires,)),
        ],
        now,
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["ALERT", "STATE", "WHERE", "SINCE", "VALUE"],
        ["C", "firing", "handle=demo-1", "2m", "down"],
        [],
        ["RULE", "SEVERITY", "STATE", "EVALUATED", "BY"],
        ["C", "critical", "firing", "prometheus"],
        ["B", "warning", "failing:", "no", "such", "store", "loki"],
        ["A", "warning", "ok", "prometheus"],
    ]
