"""What leaves the process: points, starts, ends, the overflow series, the resource."""

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


def test_points_arrive_cumulative_with_their_start(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    orders = pipeline.registry.instrument(ORDERS).at({"country": "de"})
    for total in (2.0, 5.0):
        orders.cells[0] = total
        assert pipeline.flush_metrics()
    first, second = (series(m)["shop.orders", '{"country": "de"}'] for m in otlp.metrics)
    # A young counter begins with a 0 at its start, or `increase()` would miss its first value.
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
    assert (metric.unit, metric.sum.is_monotonic, metric.sum.aggregation_temporality) == (
        "{order}", True, 2,
    )  # fmt: skip


def test_no_two_values_of_a_series_have_one_millisecond(
    make: Make, otlp: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prometheus would refuse the second, and all that came with it."""
    pipeline = make()
    pipeline.registry.instrument(OPEN).at({}).cells[0] = 1
    now = time.time_ns()
    monkeypatch.setattr(sender.time, "time_ns", lambda: now)
    for _ in range(3):
        assert pipeline.flush_metrics()
    points = [point for m in otlp.metrics for point in series(m)["shop.open", "{}"]]
    assert len({point.time_unix_nano // 1_000_000 for point in points}) == len(points) == 3


def test_any_number_is_sent_as_the_number_it_is(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    pipeline.registry.instrument(OPEN).at({}).cells[0] = Decimal("12.5")
    pipeline.registry.instrument(ORDERS).at({"country": "\ud800"}).cells[0] = 1
    assert pipeline.flush_metrics()
    found = series(otlp.metrics[0])
    assert [p.as_double for p in found["shop.open", "{}"]] == [12.5]
    assert [p.as_double for p in found["shop.orders", '{"country": "?"}']] == [0, 1]
    assert b'country="?"' in b"".join(pipeline.shown.page(False))


def test_a_histogram_arrives_whole(make: Make, otlp: Receiver) -> None:
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


def test_a_series_that_ends_is_ended_once_with_no_recorded_value(
    make: Make, otlp: Receiver
) -> None:
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
    assert "telemetry.ended" not in names, "Prometheus must see the same series end"


def test_an_end_is_told_again_until_it_arrives(make: Make, otlp: Receiver) -> None:
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


def test_a_counter_that_ended_and_begins_anew_is_young_again(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    orders = pipeline.registry.instrument(ORDERS)
    for _ in range(2):
        orders.at({}).cells[0] = 3
        assert pipeline.flush_metrics()
        orders.end({})
        assert pipeline.flush_metrics()
    anew = series(otlp.metrics[2])["shop.orders", "{}"]
    assert [p.as_double for p in anew] == [0, 3]


def test_the_overflow_series_is_marked_as_the_specification_says(
    make: Make, otlp: Receiver
) -> None:
    pipeline = make(TELEMETRY_CARDINALITY_LIMIT="2")
    for country in ("de", "fr", "it"):
        pipeline.registry.instrument(ORDERS).at({"country": country}).cells[0] += 1
    assert pipeline.flush_metrics()
    found = series(otlp.metrics[0])
    assert [p.as_double for p in found["shop.orders", '{"otel.metric.overflow": true}']] == [0, 2]


def test_what_the_app_records_with_the_api_goes_too_under_the_same_resource(
    make: Make, otlp: Receiver
) -> None:
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
    shown = {p.metric.prometheus: p.value for p in pipeline.shown.points()}
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
def test_the_resource(
    make: Make, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], name: str
) -> None:
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    resource = make(name="given", **environ).resource.attributes
    assert resource["service.name"] == name
    assert len(str(resource["service.instance.id"])) == 36
    assert resource.get("handle") == ("amy" if "handle" in str(environ) else None)


def test_each_process_is_an_instance_whatever_the_environment_says(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=given")
    assert make().resource.attributes["service.instance.id"] == "given"
    shared = make(TELEMETRY_RUN_DIR=str(tmp_path)).resource.attributes["service.instance.id"]
    assert shared != "given"
