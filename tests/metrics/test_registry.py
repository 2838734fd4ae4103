"""Series: looked up, limited, ended, moved, reset in a forked child."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from telemetry import metrics
from telemetry.catalog import Metric
from telemetry.metrics.points import HistogramValue, canonical, merged
from telemetry.metrics.registry import OVERFLOW, MemoryStorage, Registry
from telemetry.testing import Recorded, fixed_clock

ORDERS = Metric("shop.orders", "counter", "{order}", "Orders.", ("country",))
DEPTH = Metric("shop.depth", "gauge", "{order}", "Orders waiting.")
OPEN = Metric("shop.open", "updowncounter", "{order}", "Orders open.")
TIME = Metric("shop.time", "histogram", "s", "Time.", ("country",), (1.0, 2.0))


def values(registry: Registry) -> dict[tuple[object, ...], object]:
    return {point.key: point.value for point in registry.points()}


def test_order_of_attributes_does_not_change_series() -> None:
    orders = Registry().instrument(ORDERS)
    one = orders.at({"a": "1", "b": 2})
    assert orders.at({"b": "2", "a": 1}) is one
    assert orders.at({"a": "1", "b": "2", "c": ""}) is one, "empty is absent, as in Prometheus"
    assert orders.at({"a": ["1"], "b": "2"}) is not one
    assert orders.at({"a": ["1"], "b": "2"}).attributes == (("a", "['1']"), ("b", "2"))


def test_series_limit_includes_overflow_series(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry(limit=10)
    orders = registry.instrument(ORDERS)
    for number in range(5000):
        orders.at({"country": str(number)}).cells[0] += 1
    assert len(orders.series) == 10
    assert orders.series[OVERFLOW].cells[0] == 5000 - 9
    assert sum(series.cells[0] for series in orders.series.values()) == 5000
    assert len(orders._by_given) <= 10, "overflowed keys are not cached: they are unbounded"
    assert caplog.text.count("otel.metric.overflow") == 1
    assert registry.instrument(TIME).at({}).attributes == (), "each instrument has its own limit"


def test_ended_series_makes_room_and_is_reported_once() -> None:
    registry = Registry(limit=2)
    orders = registry.instrument(ORDERS)
    orders.at({"country": "de"})
    orders.end({"country": "de"})
    orders.end({"country": "de"})
    orders.end({"country": "never existed"})
    (ended,) = registry.take_ended()
    assert (ended.key, ended.value) == ((ORDERS.name, (("country", "de"),)), None)
    assert registry.take_ended() == []
    assert orders.at({"country": "fr"}).attributes == (("country", "fr"),)


def test_unexported_end_marker_is_retried_unless_series_restarts() -> None:
    registry = Registry()
    orders = registry.instrument(ORDERS)
    for country in ("de", "fr"):
        orders.at({"country": country})
        orders.end({"country": country})
    ended = registry.take_ended()
    orders.at({"country": "fr"})
    registry.restore_ended(ended)
    assert [point.key[1] for point in registry.take_ended()] == [(("country", "de"),)]


def test_restarted_series_has_new_start_and_no_end_marker() -> None:
    registry = Registry(clock=fixed_clock(100, 1))
    orders = registry.instrument(ORDERS)
    orders.at({}).cells[0] = 5
    orders.end({})
    orders.at({})
    assert registry.take_ended() == []
    (point,) = registry.points()
    assert (point.value, point.start_time_ns) == (0, 101)


def test_moved_series_keep_counts_and_bound_instruments() -> None:
    registry = Registry()
    bound = metrics.BoundCounter(registry.instrument(ORDERS).at({}))
    bound.add(3)
    registry.move(MemoryStorage(), keep=True)
    bound.add(4)
    assert values(registry) == {("shop.orders", ()): 7}


def test_forked_child_starts_at_zero_and_drops_series_of_parent() -> None:
    registry = Registry(clock=fixed_clock(100, 1))
    bound = metrics.BoundCounter(registry.instrument(ORDERS).at({}))
    bound.add(3)
    registry.instrument(DEPTH).at({}).cells[0] = 8
    registry.instrument(OPEN).at({"worker": "1"}).cells[0] = 8
    registry.instrument(TIME).at({}).cells[1] += 1
    cleared: list[str] = []
    registry.resets.append(lambda: cleared.append("yes"))
    registry.after_fork()
    assert values(registry) == {
        ("shop.orders", ()): 0,
        ("shop.time", ()): HistogramValue(0, [0, 0, 0]),
    }
    assert registry.take_ended() == [], "they continue in the parent"
    assert cleared
    bound.add(1)
    assert values(registry)["shop.orders", ()] == 1


def test_failing_sampler_does_not_affect_other_series(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    registry.instrument(ORDERS).at({}).cells[0] = 2
    registry.samplers.append(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert values(registry) == {("shop.orders", ()): 2}
    assert "sampler failed" in caplog.text


def test_concurrent_increments_are_all_counted() -> None:
    registry = Registry()
    orders = registry.instrument(ORDERS)

    def work() -> None:
        for number in range(5000):
            orders.at({"country": str(number % 3)}).cells[0] += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(point.value for point in registry.points()) == 40_000  # type: ignore[misc]


def test_full_disk_is_logged_once_and_counting_continues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full(MemoryStorage):
        def allocate(self, *args: object) -> list[float]:  # type: ignore[override]
            raise OSError(28, "No space left on device")

    registry = Registry(Full())
    orders = registry.instrument(ORDERS)
    for country in ("de", "fr"):
        orders.at({"country": country}).cells[0] += 1
    assert len(registry.points()) == 2
    assert caplog.text.count("no room for new series") == 1


# --- the public instruments -----------------------------------------------------------------


def test_instruments_record_values_of_their_kind(recorded: Recorded) -> None:
    orders, depth, time = metrics.counter(ORDERS), metrics.gauge(DEPTH), metrics.histogram(TIME)
    orders.add(2, {"country": "de"})
    orders.bind({"country": "de"}).add()
    orders.set_total(40, {"country": "fr"})
    depth.set(5)
    depth.add(-2)
    depth.bind().add(1)
    time.record(1.0)
    time.record(1.5)
    time.bind().record(9)
    assert recorded.value("shop_orders_total", country="de") == 3
    assert recorded.value("shop_orders_total", country="fr") == 40
    assert recorded.value("shop_depth") == 4
    (point,) = (p for p in recorded.points() if p.metric is TIME)
    assert point.value == HistogramValue(11.5, [1, 1, 1]), "bounds are inclusive"


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
def test_invalid_amount_is_dropped_and_counted(recorded: Recorded, amount: float) -> None:
    metrics.counter(ORDERS).add(amount)
    assert recorded.value("shop_orders_total") is None
    assert recorded.value("telemetry_dropped_total", signal="metrics", reason="invalid_value") == 1


def test_nan_observation_is_dropped_and_counted(recorded: Recorded) -> None:
    metrics.histogram(TIME).record(float("nan"))
    assert recorded.value("shop_time_seconds") is None
    assert recorded.value("telemetry_dropped_total", reason="invalid_value") == 1


@pytest.mark.parametrize(
    ("make", "metric", "message"),
    [
        (metrics.counter, DEPTH, "shop.depth is a gauge, not a counter"),
        (metrics.gauge, ORDERS, "not a gauge or updowncounter"),
        (metrics.histogram, ORDERS, "not a histogram"),
        (metrics.histogram, Metric("x", "histogram", "s", ""), "without buckets"),
    ],
)
def test_instrument_of_wrong_kind_raises_type_error(
    make: Callable[[Metric], object], metric: Metric, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        make(metric)


def test_touched_series_exists_at_zero_and_ended_series_is_gone(recorded: Recorded) -> None:
    orders = metrics.counter(ORDERS)
    orders.touch({"country": "de"})
    assert recorded.value("shop_orders_total", country="de") == 0
    orders.end({"country": "de"})
    assert recorded.value("shop_orders_total", country="de") is None


# --- points ---------------------------------------------------------------------------------


def test_merged_adds_up_points_of_same_series() -> None:
    registry = Registry(clock=fixed_clock(100, 1))
    for country in ("de", "fr"):
        registry.instrument(ORDERS).at({"country": country}).cells[0] = 2
        registry.instrument(TIME).at({"country": country}).cells[1] = 3
    points = registry.points()
    again = [*points, *points]
    assert {p.key: p.value for p in merged(again)} == {
        ("shop.orders", (("country", "de"),)): 4,
        ("shop.orders", (("country", "fr"),)): 4,
        ("shop.time", (("country", "de"),)): HistogramValue(0, [6, 0, 0]),
        ("shop.time", (("country", "fr"),)): HistogramValue(0, [6, 0, 0]),
    }
    assert [p.start_time_ns for p in merged(again)] == [p.start_time_ns for p in points]


def test_canonical_attributes_are_sorted_text_without_empty_values() -> None:
    assert canonical({"b": 2, "a": True, "c": ""}) == (("a", "True"), ("b", "2"))
    assert canonical(None) == ()


def test_failing_sampler_is_logged_by_our_logger(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()
    registry.samplers.append(lambda: [][0])
    with caplog.at_level(logging.ERROR):
        registry.points()
    assert {record.name for record in caplog.records} == {"telemetry.metrics.registry"}
