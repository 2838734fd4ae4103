"""Exported data: points, starts, staleness markers, the overflow series, the resource."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
from opentelemetry import metrics as otel_metrics

from telemetry.export import sender
from tests.export.conftest import NO_RECORDED_VALUE, OPEN, ORDERS, TIME, Make, resources, series
from tests.fixtures.otlp import Receiver


def test_counter_is_exported_cumulative_with_start_time(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    orders = pipeline.registry.instrument(ORDERS).at({"country": "de"})
    for total in (2.0, 5.0):
        orders.cells[0] = total
        assert pipeline.flush_metrics()
    first, second = (series(m)["shop.orders", '{"country": "de"}'] for m in otlp.metrics)
    # A young counter has a 0 at its start; otherwise `increase()` would miss its first value.
    assert [p.as_double for p in first] == [0, 2]
    assert first[0].time_unix_nano == first[0].start_time_unix_nano == orders.start_time_ns
    assert [p.as_double for p in second] == [5]
    assert second[0].start_time_unix_nano == orders.start_time_ns
    (metric,) = (
        m
        for r in otlp.metrics[0].resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
        if m.name == "shop.orders"
    )
    cumulative = 2
    assert (metric.unit, metric.sum.is_monotonic) == ("{order}", True)
    assert metric.sum.aggregation_temporality == cumulative


def test_two_exports_never_have_same_millisecond(
    make: Make, otlp: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus would reject the second one, and the whole request with it."""
    pipeline = make()
    pipeline.registry.instrument(OPEN).at({}).cells[0] = 1
    now = time.time_ns()
    monkeypatch.setattr(sender.time, "time_ns", lambda: now)
    for _ in range(3):
        assert pipeline.flush_metrics()
    points = [point for m in otlp.metrics for point in series(m)["shop.open", "{}"]]
    assert len({point.time_unix_nano // 1_000_000 for point in points}) == len(points) == 3


def test_decimal_value_and_lone_surrogate_are_exported(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    pipeline.registry.instrument(OPEN).at({}).cells[0] = Decimal("12.5")
    pipeline.registry.instrument(ORDERS).at({"country": "\ud800"}).cells[0] = 1
    assert pipeline.flush_metrics()
    found = series(otlp.metrics[0])
    assert [p.as_double for p in found["shop.open", "{}"]] == [12.5]
    assert [p.as_double for p in found["shop.orders", '{"country": "?"}']] == [0, 1]
    assert b'country="?"' in b"".join(pipeline.page.render(False))


def test_histogram_is_exported_with_sum_count_and_buckets(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    cells = pipeline.registry.instrument(TIME).at({}).cells
    for index, value in enumerate((9.5, 1, 2, 3)):
        cells[index] = value
    assert pipeline.flush_metrics()
    empty, point = series(otlp.metrics[0])["shop.time", "{}"]
    assert (empty.count, list(empty.bucket_counts)) == (0, [0, 0, 0])
    assert (point.sum, point.count, list(point.bucket_counts)) == (9.5, 6, [1, 2, 3])
    assert list(point.explicit_bounds) == [1.0, 2.0]
    assert not point.HasField("min")


def test_ended_series_sends_one_staleness_marker(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    gauge = pipeline.registry.instrument(OPEN)
    gauge.at({"a": "1"}).cells[0] = 4
    assert pipeline.flush_metrics()
    gauge.end({"a": "1"})
    assert pipeline.flush_metrics()
    assert pipeline.flush_metrics()
    first, second, third = (series(m).get(("shop.open", '{"a": "1"}'), []) for m in otlp.metrics)
    assert [(p.as_double, p.flags) for p in first] == [(4, 0)]
    assert [p.flags for p in second] == [NO_RECORDED_VALUE]
    assert third == []
    names = {s.scope.name for r in otlp.metrics[1].resource_metrics for s in r.scope_metrics}
    assert "telemetry.ended" not in names, "the marker must belong to the same series"


def test_refused_staleness_marker_is_sent_again(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    gauge = pipeline.registry.instrument(OPEN)
    gauge.at({}).cells[0] = 4
    assert pipeline.flush_metrics()
    gauge.end({})
    otlp.status = 400
    assert not pipeline.flush_metrics()
    otlp.status = 200
    assert pipeline.flush_metrics()
    assert [p.flags for p in series(otlp.metrics[-1])["shop.open", "{}"]] == [NO_RECORDED_VALUE]


def test_restarted_counter_has_zero_point_again(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    orders = pipeline.registry.instrument(ORDERS)
    for _ in range(2):
        orders.at({}).cells[0] = 3
        assert pipeline.flush_metrics()
        orders.end({})
        assert pipeline.flush_metrics()
    restarted = series(otlp.metrics[2])["shop.orders", "{}"]
    assert [p.as_double for p in restarted] == [0, 3]


def test_overflow_series_has_attribute_of_specification(make: Make, otlp: Receiver) -> None:
    pipeline = make(TELEMETRY_CARDINALITY_LIMIT="2")
    for country in ("de", "fr", "it"):
        pipeline.registry.instrument(ORDERS).at({"country": country}).cells[0] += 1
    assert pipeline.flush_metrics()
    found = series(otlp.metrics[0])
    assert [p.as_double for p in found["shop.orders", '{"otel.metric.overflow": true}']] == [0, 2]


def test_api_metrics_are_exported_under_same_resource(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    meter = otel_metrics.get_meter("shop.own")
    meter.create_counter("own.orders", unit="{order}").add(3, {"country": "de"})
    meter.create_histogram("own.time", unit="s").record(0.2)
    meter.create_histogram("http.server.request.duration", unit="s").record(0.2)
    assert pipeline.flush_metrics()
    found = series(otlp.metrics[-1])
    assert [p.as_int for p in found["own.orders", '{"country": "de"}']] == [3]
    assert not [key for key in found if key[0] == "http.server.request.duration"], "counted once"
    assert {json.dumps(r, sort_keys=True) for r in resources(otlp)} == {
        json.dumps(resources(otlp)[0], sort_keys=True)
    }
    shown = {p.metric.prometheus: p.value for p in pipeline.page.points()}
    assert shown["own_orders_total"] == 3
    assert "own_time_seconds" in shown


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "given"),
        ({"OTEL_SERVICE_NAME": "named"}, "named"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=attributed,handle=amy"}, "attributed"),
    ],
)
def test_resource_has_service_name_and_attributes_of_environment(
    make: Make, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], name: str
) -> None:
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    resource = make(name="given", **environ).resource.attributes
    assert resource["service.name"] == name
    assert len(str(resource["service.instance.id"])) == 36
    assert resource.get("handle") == ("amy" if "handle" in str(environ) else None)


def test_workers_of_run_ignore_instance_id_of_environment(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=given")
    assert make().resource.attributes["service.instance.id"] == "given"
    shared = make(TELEMETRY_RUN_DIR=str(tmp_path)).resource.attributes["service.instance.id"]
    assert shared != "given"


def test_secrets_in_resource_are_masked(
    make: Make, otlp: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = "deploy.token=hunter22,url=postgres://ann:hunter22@db/x,n=pwd%3Dhunter22"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", given)
    pipeline = make()
    assert pipeline.flush_metrics()
    assert "hunter22" not in json.dumps(resources(otlp))
    assert pipeline.resource.attributes["url"] == "postgres://ann:[redacted]@db/x"
