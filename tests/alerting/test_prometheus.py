"""The rules in Prometheus, from a pushed sample to the receiver."""

from __future__ import annotations

import argparse
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Metric,
    NumberDataPoint,
)

from telemetry import catalog
from telemetry.alerting.commands import add_commands
from telemetry.alerting.render.write import provision
from telemetry.alerting.settings import AlertSettings
from telemetry.errors import TelemetryError
from tests.alerting.processes import alertmanager, get, prometheus
from tests.alerting.receivers import HttpReceiver, http_receiver
from tests.fixtures.stack import until

pytestmark = pytest.mark.stack

NO_RECORDED_VALUE = 1  # OTLP's flag; Prometheus reads it as a staleness marker


@dataclass
class Stack:
    """A Prometheus with Alertmanager and a receiver."""

    prometheus: str
    alertmanager: str
    inbox: HttpReceiver
    environ: dict[str, str]
    pushed_ms: int = 0

    def push(
        self,
        instance: str,
        *points: tuple[catalog.Metric, dict[str, str], float | None],
        job: str = "platform",
        age_s: float = 0,
    ) -> None:
        """Push points over OTLP, as the Collector does; None ends a series.

        Each push has a later time in ms, since Prometheus refuses a second value for the same one.
        """
        request = ExportMetricsServiceRequest()
        resource = request.resource_metrics.add()
        for key, value in (("service.name", job), ("service.instance.id", instance)):
            resource.resource.attributes.append(_attribute(key, value))
        scope = resource.scope_metrics.add()
        self.pushed_ms = max(time.time_ns() // 1_000_000, self.pushed_ms + 1)
        now = self.pushed_ms * 1_000_000 - int(age_s * 1e9)
        for metric, attributes, number in points:
            point = NumberDataPoint(
                attributes=[_attribute(key, value) for key, value in attributes.items()],
                time_unix_nano=now,
                as_double=number or 0,
                flags=NO_RECORDED_VALUE if number is None else 0,
            )
            pushed = Metric(name=metric.name, unit=metric.unit)
            if metric.kind == "counter":
                pushed.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
                pushed.sum.is_monotonic = True
                pushed.sum.data_points.append(point)
            else:
                pushed.gauge.data_points.append(point)
            scope.metrics.append(pushed)
        call = urllib.request.Request(
            f"{self.prometheus}/api/v1/otlp/v1/metrics",
            data=request.SerializeToString(),
            headers={"Content-Type": "application/x-protobuf"},
        )
        with urllib.request.urlopen(call, timeout=5):
            pass

    def notices(self, name: str) -> list[tuple[str, str]]:
        """Return (status, handle) of each notice of an alert so far."""
        return [
            (alert["status"], alert["labels"]["handle"])
            for alert in self.inbox.alerts()
            if alert["labels"]["alertname"] == name
        ]


def _attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("evaluator")
    with http_receiver() as inbox:
        environ = {
            "TELEMETRY_HOME": str(folder / "home"),
            "TELEMETRY_GATEWAY_URL": inbox.url,
            "TELEMETRY_WEBHOOK_TOKEN": "webhook-secret",
        }
        provision("prometheus", folder, AlertSettings.from_env(environ))
        with alertmanager(folder) as second, prometheus(folder, second) as first:
            environ |= {
                "TELEMETRY_PROMETHEUS_URL": first,
                "TELEMETRY_ALERTMANAGER_URL": second,
                # These addresses are unreachable: only Prometheus evaluates.
                "TELEMETRY_LOKI_URL": "http://127.0.0.1:9",
                "TELEMETRY_GRAFANA_URL": "http://127.0.0.1:9",
            }
            yield Stack(first, second, inbox, environ)


UP = catalog.PLATFORM_CONTAINER_UP
TOTAL = (catalog.PLATFORM_CONTAINERS_TOTAL, {"status": "running"}, 1.0)
HOST = (catalog.Metric("system.memory.usage", "gauge", "By", ""), {"state": "used"}, 1.0)


def kill_host_while_another_is_up(stack: Stack) -> None:
    """Push an agent's last samples, 6 minutes old, and current ones of another host."""
    stack.push("b", TOTAL, (UP, {"handle": "db"}, 0.0), job="agent", age_s=360)
    stack.push("a", TOTAL, (UP, {"handle": "ann"}, 1.0))
    stack.push("localhost", HOST, job="host")
    until(lambda: ("firing", "db") in stack.notices("ContainerDown"), 60)
    gone = {"job": "agent", "instance": "b"}
    until(
        lambda: any(gone.items() <= alert["labels"].items() for alert in stack.inbox.alerts()), 90
    )


def crash_container_repeatedly(stack: Stack) -> None:
    """Push samples of a container that is up now, after four restarts."""
    restarts, here = catalog.PLATFORM_CONTAINER_RESTARTS, {"handle": "loop"}
    stack.push("c", TOTAL, (UP, here, 0.0), (restarts, here, 0.0), age_s=30)
    stack.push("c", TOTAL, (UP, here, 1.0), (restarts, here, 4.0))
    until(lambda: ("firing", "loop") in stack.notices("ContainerDown"), 60)


def test_a_container_goes_down_and_comes_back(stack: Stack) -> None:
    here = {"handle": "back"}
    stack.push("a", TOTAL, (UP, here, 1.0))
    stack.push("a", TOTAL, (UP, here, 0.0))
    until(lambda: ("firing", "back") in stack.notices("ContainerDown"))
    stack.push("a", TOTAL, (UP, here, 1.0))
    until(lambda: ("resolved", "back") in stack.notices("ContainerDown"))


def test_a_container_that_is_removed_while_down_resolves(stack: Stack) -> None:
    here = {"handle": "removed"}
    stack.push("a", TOTAL, (UP, here, 0.0))
    until(lambda: ("firing", "removed") in stack.notices("ContainerDown"))
    stack.push("a", TOTAL, (UP, here, None))
    until(lambda: ("resolved", "removed") in stack.notices("ContainerDown"))


def test_dead_host_fires_while_another_host_is_up(stack: Stack) -> None:
    kill_host_while_another_is_up(stack)


def test_crash_looping_container_is_down(stack: Stack) -> None:
    crash_container_repeatedly(stack)


def test_first_oom_kill_of_a_container_fires(stack: Stack) -> None:
    kills, here = catalog.PLATFORM_CONTAINER_OOM_KILLS, {"handle": "oom"}
    stack.push("a", TOTAL, (kills, here, 0.0))
    stack.push("a", TOTAL, (kills, here, 1.0))
    until(lambda: ("firing", "oom") in stack.notices("ContainerOOMKilled"))


def evaluated(stack: Stack) -> list[dict[str, object]]:
    """All rules, after each was evaluated."""

    def rules() -> list[dict[str, object]]:
        groups = get(f"{stack.prometheus}/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    # The slowest group is evaluated every 10 s.
    until(lambda: all(rule["health"] != "unknown" for rule in rules()), timeout_s=40)
    return rules()


def test_every_rule_is_evaluated_without_an_error(stack: Stack) -> None:
    rules = evaluated(stack)
    assert len(rules) == 14
    assert [rule for rule in rules if rule["health"] != "ok"] == []


@pytest.fixture
def alerts(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run ``telemetry alerts …`` against the stack; returns exit code and output."""
    for key, value in stack.environ.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        add_commands(parser.add_subparsers())
        args = parser.parse_args(["alerts", *arguments])
        code = args.run(args)
        return code, capsys.readouterr().out

    return run


def test_list_shows_firing_alerts_and_every_rule(
    stack: Stack, alerts: Callable[..., tuple[int, str]]
) -> None:
    stack.push("a", TOTAL, (UP, {"handle": "listed"}, 0.0))
    until(lambda: ("firing", "listed") in stack.notices("ContainerDown"))
    evaluated(stack)
    code, text = alerts("list")
    assert code == 0
    assert re.search(r"^ContainerDown +firing +handle=listed +\d+s +down *$", text, re.M)
    assert re.search(r"^ContainerDown +critical +firing +prometheus *$", text, re.M)
    assert re.search(r"^HighCostRate +warning +ok +prometheus *$", text, re.M)


def test_silence_suppresses_notices_is_listed_and_can_be_ended(
    stack: Stack, alerts: Callable[..., tuple[int, str]]
) -> None:
    code, text = alerts(
        *("silence", "ContainerDown", "--label", "handle=silenced"),
        *("--for", "1h", "--comment", "moving"),
    )
    assert code == 0
    assert text.startswith("silenced alertname=ContainerDown handle=silenced until ")
    stack.push("a", TOTAL, (UP, {"handle": "silenced"}, 0.0), (UP, {"handle": "loud"}, 0.0))
    until(lambda: ("firing", "loud") in stack.notices("ContainerDown"))
    code, text = alerts("silence")
    row = re.search(r"alertname=ContainerDown handle=silenced +(\S+ \S+) +moving +(\S+)", text)
    assert row is not None
    assert row[1].startswith("59m")
    assert ("firing", "silenced") not in stack.notices("ContainerDown")
    alerts("silence", "--end", row[2])
    until(lambda: ("firing", "silenced") in stack.notices("ContainerDown"))
    assert alerts("silence")[1].strip() == "no silences"


@pytest.mark.parametrize(
    ("arguments", "message", "remedy"),
    [
        (["silence", "ContanerDown"], "there is no alert ContanerDown", "ContainerDown?"),
        (["silence", "ContainerDown", "--for", "soon"], "--for soon is not a duration", "2h"),
        (["silence", "ContainerDown", "--label", "x"], "--label x is not NAME=VALUE", "handle="),
        (["silence", "--end", "no"], "there is no active silence no", "alerts silence"),
        (["test", "Nothing"], "there is no alert Nothing", ""),
    ],
)
def test_wrong_argument_is_an_error_with_a_remedy(
    alerts: Callable[..., tuple[int, str]], arguments: list[str], message: str, remedy: str
) -> None:
    with pytest.raises(TelemetryError) as error:
        alerts(*arguments)
    assert message in error.value.message
    assert remedy in error.value.remedy


def test_test_notice_goes_through_each_channel_and_answers_are_printed(
    stack: Stack, alerts: Callable[..., tuple[int, str]]
) -> None:
    code, text = alerts("test", "ContainerDown")
    assert code == 0
    assert re.search(rf"^webhook +{stack.inbox.url}/api/alert +delivered: 200 OK", text, re.M)
    assert "Slack is off; set TELEMETRY_SLACK_WEBHOOK_URL\n" in text
    # Notices from Prometheus may arrive in between.
    firing, resolved = (
        alert
        for alert in stack.inbox.alerts()
        if alert["annotations"]["summary"] == "Test of ContainerDown"
    )
    assert (firing["status"], resolved["status"]) == ("firing", "resolved")
    assert firing["fingerprint"] == resolved["fingerprint"]
    assert firing["labels"] == {
        "alertname": "ContainerDown",
        "severity": "critical",
        "handle": "demo-1",
    }
    assert firing["annotations"]["summary"] == "Test of ContainerDown"
    assert firing["annotations"]["dashboard_url"].endswith("&var-handle=demo-1")

    stack.inbox.status = 401
    try:
        code, text = alerts("test")
    finally:
        stack.inbox.status = 200
    assert code == 1
    assert "failed: 401 Unauthorized" in text
