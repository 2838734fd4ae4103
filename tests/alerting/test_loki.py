"""The log rules in Loki with the shipped configuration."""

from __future__ import annotations

import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from telemetry.alerting.render.prometheus import condition
from telemetry.alerting.render.write import provision
from telemetry.alerting.rules import all_rules
from telemetry.alerting.settings import AlertSettings
from telemetry.alerting.thresholds import Thresholds
from telemetry.stack import certificates
from telemetry.system import packaged_files
from telemetry.system.tls import client_context
from tests.alerting.processes import alertmanager, get, process
from tests.alerting.receivers import HttpReceiver, http_receiver
from tests.engines import engine
from tests.fixtures.stack import until
from tests.ports import free_port

pytestmark = pytest.mark.stack

[RULE] = [rule for rule in all_rules(Thresholds()) if rule.source == "loki"]
MINUTE_S = 60
DAY_S = 24 * 60 * MINUTE_S


@dataclass
class Loki:
    url: str
    tls: Path
    inbox: HttpReceiver

    def get(self, path: str) -> Any:
        return get(f"{self.url}{path}", self.tls)

    def push(self, level: str, ages_s: list[float], **resource: str) -> None:
        """Push a line for each age, as the Collector does: level and handle on the resource."""
        now = time.time()
        request = ExportLogsServiceRequest()
        group = request.resource_logs.add()
        for key, value in {**resource, "level": level}.items():
            name = key.replace("_", ".") if key == "service_name" else key
            group.resource.attributes.append(KeyValue(key=name, value=AnyValue(string_value=value)))
        scope = group.scope_logs.add()
        for number, age_s in enumerate(sorted(ages_s, reverse=True)):
            record = scope.log_records.add()
            record.time_unix_nano = int((now - age_s) * 1e9)
            record.body.string_value = f"line {number}"
        call = urllib.request.Request(
            f"{self.url}/otlp/v1/logs",
            data=request.SerializeToString(),
            headers={"Content-Type": "application/x-protobuf"},
        )
        with urllib.request.urlopen(call, timeout=10, context=client_context(self.tls)):
            pass

    def holds(self) -> dict[tuple[str, str], float]:
        """Return the lines by (service, handle) for which the rule's condition holds now."""
        query = urllib.parse.urlencode({"query": condition(RULE)})
        answer = self.get(f"/loki/api/v1/query?{query}")
        return {
            (series["metric"]["service_name"], series["metric"].get("handle", "")): float(
                series["value"][1]
            )
            for series in answer["data"]["result"]
        }


@pytest.fixture(scope="module")
def loki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loki]:
    folder: Path = tmp_path_factory.mktemp("loki")
    url, tls = f"https://127.0.0.1:{free_port()}", folder / "tls"
    certificates.ensure(tls)
    with http_receiver() as inbox:
        environ = {
            "TELEMETRY_GATEWAY_URL": inbox.url,
            "TELEMETRY_WEBHOOK_TOKEN": "webhook-secret",
            "TELEMETRY_ALERT_ERROR_LINES_FOR": "0",
        }
        provision("prometheus", folder, AlertSettings.from_env(environ))
        # The real interval is a minute.
        [rules] = (folder / "loki").rglob("*.yaml")
        rules.write_text(rules.read_text().replace("interval: 1m", "interval: 1s"))
        with alertmanager(folder) as alerts:
            settings = {
                "TELEMETRY_LOKI_PORT": url.rsplit(":", 1)[1],
                "TELEMETRY_LOKI_GRPC_PORT": str(free_port()),
                "TELEMETRY_LOKI_DATA": str(folder / "data"),
                "TELEMETRY_LOKI_RULES": str(folder / "loki"),
                "TELEMETRY_ALERTMANAGER_URL": alerts,
                "TELEMETRY_TLS": str(tls),
            }
            command = [
                "env",
                *(f"{key}={value}" for key, value in settings.items()),
                engine("loki"),
                f"-config.file={packaged_files.path('compose/loki/loki.yaml')}",
                "-config.expand-env=true",
            ]
            with process(command, f"{url}/ready", folder / "loki.log", tls):
                yield Loki(url, tls, inbox)


def test_loki_loads_and_evaluates_every_log_rule(loki: Loki) -> None:
    def rules() -> list[dict[str, str]]:
        try:
            groups = loki.get("/prometheus/api/v1/rules")["data"]["groups"]
        except OSError:  # 404 until the ruler has read its folder
            return []
        return [rule for group in groups for rule in group["rules"]]

    until(lambda: [r["health"] for r in rules()] == ["ok"], timeout_s=40)
    assert [rule["name"] for rule in rules()] == ["ErrorLogBurst"]


def test_burst_fires_and_one_line_less_does_not(loki: Loki) -> None:
    services = ("burst", "under", "only-warnings")
    recent = [10 + n / 10 for n in range(21)]
    loki.push("error", recent, service_name="burst")
    loki.push("fatal", recent, service_name="burst", handle="demo-1")
    loki.push("error", recent[:20], service_name="under")
    loki.push("warn", recent * 3, service_name="only-warnings")
    until(lambda: {("burst", ""), ("burst", "demo-1")} <= set(loki.holds()))
    holds = {key: lines for key, lines in loki.holds().items() if key[0] in services}
    assert holds == {("burst", ""): 21, ("burst", "demo-1"): 21}


def test_service_that_always_logs_errors_fires_only_at_five_times_its_own_rate(
    loki: Loki,
) -> None:
    recent = [20 + n / 10 for n in range(30)]
    # 30 lines are 5 times the rate of 288 windows of 6 lines each.
    always = [3600 + n * 40 for n in range(288 * 6)]
    seldom = [3600 + n * 40 for n in range(288 * 5)]
    loki.push("error", always, service_name="always")
    loki.push("error", seldom, service_name="seldom")
    loki.push("error", recent, service_name="always")
    loki.push("error", recent, service_name="seldom")
    until(lambda: ("seldom", "") in loki.holds())
    assert ("always", "") not in loki.holds()


def test_old_errors_and_silence_do_not_fire(loki: Loki) -> None:
    loki.push("error", [600 + n for n in range(100)], service_name="long-ago")
    loki.push("info", [10 + n for n in range(100)], service_name="calm")
    until(lambda: _lines(loki, "calm") == 100)
    assert not {name for name, _ in loki.holds()} & {"long-ago", "calm"}


def _lines(loki: Loki, service: str) -> int:
    query = f'sum(count_over_time({{service_name="{service}"}}[1h]))'
    parameters = urllib.parse.urlencode({"query": query})
    answer = loki.get(f"/loki/api/v1/query?{parameters}")
    return sum(int(series["value"][1]) for series in answer["data"]["result"])


def test_ruler_sends_alert_to_alertmanager(loki: Loki) -> None:
    """Ask Alertmanager, not the receiver: a warning waits a minute for others."""
    loki.push("error", [5 + n / 10 for n in range(40)], service_name="ruled")

    def alerts_of_service() -> list[dict[str, dict[str, str]]]:
        groups = loki.get("/prometheus/api/v1/rules")["data"]["groups"]
        alerts = [a for g in groups for r in g["rules"] for a in r["alerts"]]
        return [alert for alert in alerts if alert["labels"]["service_name"] == "ruled"]

    [alert] = until(alerts_of_service)
    assert alert["labels"] == {
        "alertname": "ErrorLogBurst",
        "severity": "warning",
        "service_name": "ruled",
    }
    assert alert["annotations"]["description"] == (
        "ruled logged 40 error lines in 5 minutes: more than 20, and 5 times its rate of the "
        "last day."
    )
