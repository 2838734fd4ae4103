"""TelemetryLoss reads the engines' own counters of lost data."""

from __future__ import annotations

import time
import urllib.request
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from telemetry.alerting.render.prometheus import condition
from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from telemetry.promql.losses import LOSS_COUNTERS
from tests.fixtures.stack import Stack

pytestmark = pytest.mark.stack

[RULE] = [rule for rule in all_rules(Thresholds()) if rule.name == "TelemetryLoss"]


def test_the_engines_have_the_counters_that_the_rule_names(stack: Stack) -> None:
    """A release that renames one must fail here. Other counters appear only after a loss."""
    wanted = {
        "alertmanager_notifications_failed_total",
        "loki_prometheus_rule_evaluation_failures_total",
        "otelcol_receiver_failed_metric_points",
        "otelcol_receiver_refused_metric_points",
        "prometheus_notifications_dropped_total",
        "prometheus_rule_evaluation_failures_total",
        "prometheus_target_scrapes_sample_duplicate_timestamp_total",
        "prometheus_target_scrapes_sample_out_of_bounds_total",
        "prometheus_target_scrapes_sample_out_of_order_total",
        "prometheus_tsdb_out_of_bound_samples_total",
        "prometheus_tsdb_out_of_order_samples_total",
        "prometheus_tsdb_too_old_samples_total",
    }

    def names(found: list[dict[str, Any]]) -> set[str]:
        return {series["metric"]["__name__"] for series in found}

    stack.wait_query(
        f'count by (__name__) ({{__name__=~"{LOSS_COUNTERS}"}})',
        lambda found: wanted <= names(found),
    )
    stack.wait_query("otelcol_exporter_queue_size and otelcol_exporter_queue_capacity")


def test_every_rule_is_evaluated_by_the_stack_without_an_error(stack: Stack) -> None:
    def healths(url: str) -> dict[str, str]:
        groups = stack.get(f"{url}/api/v1/rules")["data"]["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    deadline = time.monotonic() + 90  # The log rules are evaluated once a minute.
    rules = {rule.name: "ok" for rule in all_rules(Thresholds())}
    found: dict[str, str] = {}
    while found != rules and time.monotonic() < deadline:
        found = healths(stack.prometheus_url) | healths(f"{stack.loki_url}/prometheus")
        time.sleep(0.5)
    assert found == rules


def test_a_line_that_loki_refuses_is_reported(stack: Stack) -> None:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.append(
        KeyValue(key="service.name", value=AnyValue(string_value="late"))
    )
    record = group.scope_logs.add().log_records.add()
    # Older than a week, which Loki's configuration refuses.
    record.time_unix_nano = time.time_ns() - 9 * 86_400_000_000_000
    record.body.string_value = "from nine days ago"
    call = urllib.request.Request(
        f"{stack.otlp_http}/v1/logs",
        data=request.SerializeToString(),
        headers={"Content-Type": "application/x-protobuf"},
    )
    with urllib.request.urlopen(call, timeout=5):
        pass

    def reported(found: list[dict[str, Any]]) -> bool:
        losses = {series["metric"]["metric"]: series["metric"] for series in found}
        return losses.get("loki_discarded_samples_total", {}).get("job") == "loki"

    stack.wait_query(condition(RULE), reported)
