"""Metrics of a container: its own name on them, a bounded number of series."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest as Request,
)

from telemetry.services.http import HTTPError
from telemetry.services.platform.relay import series
from telemetry.services.platform.relay.admission import Refused
from telemetry.services.platform.relay.series import SeriesLimit
from tests.platform.test_admission import Clock


def attributes(to: Any, pairs: list[tuple[str, str]]) -> None:
    for key, value in pairs:
        to.add(key=key).value.string_value = value


def gauge(values: list[str], resource: list[tuple[str, str]] | None = None) -> bytes:
    """A request with one gauge, and a point for each value of its attribute ``id``."""
    request = Request()
    found = request.resource_metrics.add()
    attributes(found.resource.attributes, resource or [])
    metric = found.scope_metrics.add().metrics.add(name="orders")
    for value in values:
        attributes(metric.gauge.data_points.add(as_int=1).attributes, [("id", value)])
    return request.SerializeToString()


def ids(body: bytes) -> list[str]:
    """Values of the attribute ``id`` of all points."""
    return [
        point.attributes[0].value.string_value
        for found in Request.FromString(body).resource_metrics
        for scope in found.scope_metrics
        for metric in scope.metrics
        for point in metric.gauge.data_points
    ]


def resource_of(body: bytes) -> list[tuple[str, str]]:
    (found,) = Request.FromString(body).resource_metrics
    return [(each.key, each.value.string_value) for each in found.resource.attributes]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> SeriesLimit:
    """At most four series: `target_info` and three points."""
    return SeriesLimit(4, clock)


def test_series_beyond_the_limit_are_dropped_and_known_ones_continue(limit: SeriesLimit) -> None:
    body, dropped = limit.apply("ann", gauge(["a", "b", "c", "d", "e"]))
    assert (ids(body), dropped) == (["a", "b", "c"], 2)
    body, dropped = limit.apply("ann", gauge(["e", "c", "d", "a"]))
    assert (ids(body), dropped) == (["c", "a"], 2)
    assert limit.apply("ann", gauge(["f"])) == (b"", 1)


def test_each_container_has_its_own_limit(limit: SeriesLimit) -> None:
    assert limit.apply("ann", gauge(["a", "b", "c"]))[1] == 0
    assert limit.apply("bob", gauge(["d", "e", "f"]))[1] == 0


def test_series_not_sent_for_a_while_makes_room(limit: SeriesLimit, clock: Clock) -> None:
    limit.apply("ann", gauge(["a", "b", "c"]))
    clock.now += 600
    limit.apply("ann", gauge(["a"]))
    clock.now += 600
    assert ids(limit.apply("ann", gauge(["d", "e", "f"]))[0]) == ["d", "e"]


def test_removed_container_is_forgotten(limit: SeriesLimit) -> None:
    limit.apply("ann", gauge(["a", "b", "c"]))
    limit.forget("ann")
    assert limit.apply("ann", gauge(["d", "e", "f"]))[1] == 0


def test_other_resource_scope_name_or_kind_is_another_series(clock: Clock) -> None:
    limit = SeriesLimit(5, clock)
    request = Request()
    found = request.resource_metrics.add()
    scope = found.scope_metrics.add()
    scope.metrics.add(name="a").gauge.data_points.add(as_int=1)
    scope.metrics.add(name="a").sum.data_points.add(as_int=1)
    scope.metrics.add(name="b").gauge.data_points.add(as_int=1)
    other = found.scope_metrics.add()
    other.scope.name = "other"
    other.metrics.add(name="a").gauge.data_points.add(as_int=1)
    sent = request.SerializeToString()
    assert limit.apply("ann", sent)[1] == 0, "four, and target_info"
    attributes(found.resource.attributes, [("service.instance.id", "2")])
    assert limit.apply("ann", request.SerializeToString())[1] == 4
    assert limit.apply("ann", sent)[1] == 0


def test_order_of_attributes_does_not_make_a_series(limit: SeriesLimit) -> None:
    request = Request()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="a")
    pairs = [("a", "1"), ("b", "2")]
    for order in (pairs, pairs[::-1], pairs, pairs[::-1]):
        attributes(metric.gauge.data_points.add().attributes, order)
    assert limit.apply("ann", request.SerializeToString())[1] == 0


def test_histogram_counts_as_its_buckets_and_two_more(clock: Clock) -> None:
    def histogram(*bounds: float) -> bytes:
        request = Request()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="a")
        point = metric.histogram.data_points.add(explicit_bounds=bounds)
        point.bucket_counts.extend([1] * (len(bounds) + 1))
        return request.SerializeToString()

    limit = SeriesLimit(11, clock)
    assert limit.apply("ann", histogram(1, 2))[1] == 0
    assert limit.apply("ann", histogram(1, 3))[1] == 0, "other buckets are other series"
    assert limit.apply("ann", histogram(1, 4))[1] == 1
    assert limit.apply("ann", histogram(1, 2))[1] == 0
    assert SeriesLimit(100, clock).apply("ann", histogram(*range(1000)))[1] == 1


def test_summary_counts_as_its_quantiles_and_two_more(clock: Clock) -> None:
    request = Request()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="a")
    point = metric.summary.data_points.add()
    for quantile in (0.5, 0.9):
        point.quantile_values.add(quantile=quantile)
    assert SeriesLimit(5, clock).apply("ann", request.SerializeToString())[1] == 0
    assert SeriesLimit(4, clock).apply("ann", request.SerializeToString())[1] == 1


@pytest.mark.parametrize("name", sorted(series.OWN_SERVICES))
def test_name_of_this_machines_service_gets_the_containers_in_front(
    limit: SeriesLimit, name: str
) -> None:
    """A gateway's metrics from a container are not the gateway's of this machine."""
    body, _ = limit.apply("ann", gauge(["a"], [("service.name", name)]))
    assert resource_of(body) == [("service.name", f"ann/{name}"), ("handle", "ann")]


def test_second_attribute_of_a_name_is_dropped(limit: SeriesLimit) -> None:
    """Its reader may take the last one, and the Collector checks the first."""
    claimed = [("service.name", "shop"), ("handle", "bob"), ("service.name", "gateway")]
    body, _ = limit.apply("ann", gauge(["a"], [*claimed, ("handle", "eve"), ("x", "y")]))
    assert resource_of(body) == [("x", "y"), ("service.name", "shop"), ("handle", "ann")]
    body, _ = limit.apply("ann", gauge(["a"]))
    assert resource_of(body) == [("service.name", "ann"), ("handle", "ann")]


def test_handles_on_points_are_removed(limit: SeriesLimit) -> None:
    request = Request()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="a")
    pairs = [("handle", "bob"), ("id", "a"), ("handle", "eve")]
    attributes(metric.gauge.data_points.add().attributes, pairs)
    body, _ = limit.apply("ann", request.SerializeToString())
    assert ids(body) == ["a"]
    assert b"eve" not in body


def test_body_that_is_no_metrics_gets_400(limit: SeriesLimit) -> None:
    with pytest.raises(HTTPError, match="not OTLP metrics") as caught:
        limit.apply("ann", b"\xff\xff")
    assert caught.value.status == 400


def test_body_of_very_many_points_is_refused_before_they_are_read(clock: Clock) -> None:
    """Two bytes of a body are enough for a point."""
    limit = SeriesLimit(10, clock)
    request = Request()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="a")
    metric.gauge.data_points.extend([metric.gauge.data_points.add()] * series.MAX_ITEMS)
    with pytest.raises(Refused, match="more than 200000 points") as caught:
        limit.apply("ann", request.SerializeToString())
    assert (caught.value.status, caught.value.reason) == (413, "size")
    with pytest.raises(Refused, match="larger than 4194304 bytes"):
        limit.apply("ann", bytes(series.MAX_METRICS_BYTES + 1))


def test_partial_success_adds_to_the_collectors() -> None:
    answer = series.ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 2
    body = series.partial_success(answer.SerializeToString(), 3, 10)
    found = series.ExportMetricsServiceResponse.FromString(body).partial_success
    assert found.rejected_data_points == 5
    assert "TELEMETRY_PLATFORM_RELAY_SERIES" in found.error_message


def test_fields_that_the_library_does_not_know_are_not_passed_on() -> None:
    """The Collector takes a resource's field 1000 for scopes, in which nothing was counted."""
    (hidden,) = Request.FromString(gauge(["hidden"])).resource_metrics
    smuggled = hidden.scope_metrics[0].SerializeToString()
    (shown,) = Request.FromString(gauge(["shown"])).resource_metrics
    field = _varint(1000 << 3 | 2) + _varint(len(smuggled)) + smuggled
    resource = shown.SerializeToString() + field
    body = b"\x0a" + _varint(len(resource)) + resource
    assert b"hidden" in Request.FromString(body).SerializeToString(), "it is kept by the library"
    passed, _ = SeriesLimit(10).apply("ann", body)
    assert b"shown" in passed
    assert b"hidden" not in passed


def _varint(value: int) -> bytes:
    low = value & 0x7F
    return bytes([low]) if value == low else bytes([low | 0x80]) + _varint(value >> 7)
