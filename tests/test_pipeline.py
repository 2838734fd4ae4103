"""What leaves the process, when, and what happens when nobody takes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry import metrics as otel_metrics

from telemetry import metrics, otlp
from telemetry.catalog import Metric
from telemetry.config import Settings
from telemetry.metrics.points import Point
from telemetry.metrics.registry import Registry
from telemetry.pipeline import Pipeline
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until

ORDERS = Metric("shop.orders", "counter", "{order}", "Orders.", ("country",))
OPEN = Metric("shop.open", "updowncounter", "{order}", "Orders open.")
TIME = Metric("shop.time", "histogram", "s", "Time.", (), (1.0, 2.0))
NO_RECORDED_VALUE = 1

Make = Callable[..., Pipeline]


@pytest.fixture
def make(otlp: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes a pipeline with a registry of its own, started, exporting only when asked to."""
    made: list[Pipeline] = []

    def making(*, start: bool = True, name: str = "shop", **environ: str) -> Pipeline:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
            "OTEL_LOGS_EXPORTER": "none",
            **environ,
        }
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.url)  # the SDK's exporter reads it
        pipeline = Pipeline(Settings.from_env(env), Registry(), service_name=name)
        if start:
            pipeline.start()
        made.append(pipeline)
        return pipeline

    yield making
    otlp.status = 200
    otlp.answering.set()
    for pipeline in made:
        pipeline.shutdown()


def attributes(pairs: Any) -> dict[str, Any]:
    return {p.key: getattr(p.value, p.value.WhichOneof("value")) for p in pairs}


def series(request: Any) -> dict[tuple[str, str], list[Any]]:
    """Data points by metric and attributes, in the order they were sent."""
    found: dict[tuple[str, str], list[Any]] = {}
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in getattr(metric, metric.WhichOneof("data")).data_points:
                    key = metric.name, json.dumps(attributes(point.attributes), sort_keys=True)
                    found.setdefault(key, []).append(point)
    return found


def resources(receiver: Receiver) -> list[dict[str, Any]]:
    return [attributes(r.resource.attributes) for m in receiver.metrics for r in m.resource_metrics]


# --- what is sent ---------------------------------------------------------------------------


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
    shown = {p.metric.prometheus: p.value for p in pipeline.shown_points()}
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


# --- when nobody takes it -------------------------------------------------------------------


def test_a_refusal_is_counted_and_the_next_export_has_it_all(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    orders = pipeline.registry.instrument(ORDERS).at({})
    orders.cells[0] = 3
    otlp.status = 400
    assert not pipeline.flush_metrics()
    otlp.status = 200
    assert pipeline.flush_metrics()
    found = series(otlp.metrics[-1])
    assert [p.as_double for p in found["shop.orders", "{}"]] == [0, 3]
    key = '{"reason": "export_failed", "signal": "metrics"}'
    assert found["telemetry.dropped", key][-1].as_double > 0


def test_a_collector_that_hangs_keeps_nobody_waiting(make: Make, otlp: Receiver) -> None:
    pipeline = make(OTEL_METRIC_EXPORT_TIMEOUT="60000")
    otlp.answering.clear()
    assert not pipeline.flush_metrics(timeout_s=0.05)
    pipeline.registry.instrument(ORDERS).at({}).cells[0] = 1  # counting doesn't wait for it
    otlp.answering.set()
    assert until(lambda: pipeline.flush_metrics(), what="an export") is not None


def test_an_exporter_that_raises_is_logged_and_the_thread_lives(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = make()
    real, failing = otlp.to_sdk, [True]

    def to_sdk(*args: Any) -> Any:
        if failing:
            failing.pop()
            raise RuntimeError("cannot")
        return real(*args)

    monkeypatch.setattr(otlp, "to_sdk", to_sdk)
    assert not pipeline.flush_metrics()
    assert "an export of metrics failed" in caplog.text
    assert pipeline.flush_metrics()


def test_a_source_that_fails_costs_its_own_numbers_only(make: Make, otlp: Receiver) -> None:
    class Failing:
        resource: ClassVar = {"service.name": "ledger"}

        def leads(self) -> bool:
            return True

        def collect(self) -> list[Point]:
            raise OSError("no ledger")

    class Working(Failing):
        def collect(self) -> list[Point]:
            return [Point(ORDERS, {"country": "de"}, 4.0, 1)]

    class Following(Working):
        def leads(self) -> bool:
            return False

    pipeline = make()
    pipeline.registry.sources += [Failing(), Working(), Following()]
    pipeline.registry.instrument(OPEN).at({}).cells[0] = 1
    assert pipeline.flush_metrics()
    found = series(otlp.metrics[-1])
    assert [p.as_double for p in found["shop.orders", '{"country": "de"}']] == [4]
    assert {"ledger", "shop"} <= {r["service.name"] for r in resources(otlp)}
    shown = [p for p in pipeline.shown_points() if p.metric.name == "shop.orders"]
    assert len(shown) == 2, "a follower shows what it doesn't export"


def test_a_pipeline_that_cannot_start_leaves_the_app_running(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(settings: Settings) -> Any:
        raise RuntimeError("no exporter")

    pipeline = make(start=False)
    monkeypatch.setattr(otlp, "exporters", broken)
    pipeline.start()
    assert "the app runs without it" in caplog.text
    assert pipeline.flush_metrics()


def test_a_run_folder_that_cannot_be_used_is_said(
    make: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path, otlp: Receiver
) -> None:
    pipeline = make(TELEMETRY_RUN_DIR=str(tmp_path / "gone"))
    assert "counts for itself" in caplog.text
    pipeline.registry.instrument(ORDERS).at({}).cells[0] = 1
    assert pipeline.flush_metrics()
    assert ("shop.orders", "{}") in series(otlp.metrics[-1])


# --- beginnings and ends ----------------------------------------------------------------------


def test_it_exports_by_itself_in_its_interval(make: Make, otlp: Receiver) -> None:
    make(OTEL_METRIC_EXPORT_INTERVAL="20").registry.instrument(ORDERS).at({}).cells[0] = 1
    until(lambda: len(otlp.metrics) > 2, what="three exports")


def test_the_end_exports_what_is_left_and_ends_present_values(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    pipeline.registry.instrument(OPEN).at({}).cells[0] = 2
    pipeline.registry.instrument(ORDERS).at({}).cells[0] = 2
    pipeline.shutdown()
    found = series(otlp.metrics[-1])
    assert [p.flags for p in found["shop.open", "{}"]] == [NO_RECORDED_VALUE]
    assert [p.as_double for p in found["shop.orders", "{}"]] == [0, 2]
    pipeline.start()
    assert pipeline.flush_metrics(), "it stays stopped"
    assert not [t for t in threading.enumerate() if t is pipeline._thread]


def test_what_nobody_counted_is_not_sent(make: Make, otlp: Receiver) -> None:
    assert make(OTEL_METRICS_EXPORTER="none").flush_metrics()
    assert otlp.requests == 0


def test_disabled_starts_nothing(make: Make, otlp: Receiver) -> None:
    before = threading.active_count()
    pipeline = make(OTEL_SDK_DISABLED="true")
    assert threading.active_count() == before
    pipeline.finish()
    assert pipeline.flush()
    assert otlp.requests == 0


def test_the_second_end_does_not_wait_where_the_first_was_in_vain(
    make: Make, otlp: Receiver
) -> None:
    pipeline = make()
    otlp.status = 400
    pipeline.finish()
    assert pipeline._gave_up
    otlp.status = 200
    pipeline.finish()
    assert otlp.metrics, "but it tries"


def test_a_shut_down_worker_s_counts_stay_in_the_run_and_are_not_counted_twice(
    make: Make, tmp_path: Path
) -> None:
    first = make(TELEMETRY_RUN_DIR=str(tmp_path))
    first.registry.instrument(ORDERS).at({}).cells[0] = 5
    first.shutdown()
    second = Pipeline(first.settings, first.registry, service_name="shop")
    second.start()
    second.registry.instrument(ORDERS).at({}).cells[0] += 1
    totals = [p.value for p in second.shown_points() if p.metric.name == ORDERS.name]
    second.shutdown()
    assert totals == [6]


def test_what_the_api_records_has_a_worker_where_there_are_several(
    make: Make, tmp_path: Path
) -> None:
    pipeline = make(TELEMETRY_RUN_DIR=str(tmp_path))
    otel_metrics.get_meter("shop.own").create_counter("own.several").add(1, {"a": "b"})
    (point,) = (p for p in pipeline.shown_points() if p.metric.name == "own.several")
    assert dict(point.attributes) == {"a": "b", "worker": str(os.getpid())}


# --- forks ----------------------------------------------------------------------------------

_FORKING = textwrap.dedent(
    """
    import os, sys, time
    import telemetry
    from telemetry import metrics
    from telemetry.catalog import Metric
    orders = metrics.counter(Metric("shop.orders", "counter", "{order}", ""))
    bound = orders.bind()
    depth = metrics.gauge(Metric("shop.depth", "gauge", "{order}", ""))
    telemetry.start(service_name="shop")
    bound.add(3)
    depth.set(7)
    assert telemetry.flush_metrics()
    child = os.fork()
    if child == 0:
        bound.add(10)
        assert telemetry.flush_metrics(), "the child's export"
        telemetry.shutdown()
        os._exit(0)
    bound.add(1)
    assert telemetry.flush_metrics(), "the parent's"
    assert os.waitpid(child, 0)[1] == 0
    telemetry.shutdown()
    """
)


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "in a run folder"])
def test_parent_and_child_count_and_export_each_for_itself(
    otlp: Receiver, tmp_path: Path, shared: bool
) -> None:
    env = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=given",
    } | ({"TELEMETRY_RUN_DIR": str(tmp_path)} if shared else {})
    subprocess.run([sys.executable, "-W", "error", "-c", _FORKING], env=env, check=True, timeout=60)
    last: dict[str, float] = {}
    depths: dict[str, float] = {}
    for message in otlp.metrics:
        for resource in message.resource_metrics:
            instance = attributes(resource.resource.attributes)["service.instance.id"]
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == "shop.orders":
                        last[instance] = metric.sum.data_points[-1].as_double
                    if metric.name == "shop.depth":
                        depths[instance] = metric.gauge.data_points[-1].as_double
    assert sorted(last.values()) == [4, 10], "two instances, neither with the other's"
    assert list(depths.values()) == [7], "what the child doesn't know it doesn't claim"


def test_dropped_is_counted_by_signal_and_reason() -> None:
    registry = metrics.current()
    before = {p.key: p.value for p in registry.points()}
    metrics.dropped("logs", "test_reason", 3)
    key = ("telemetry.dropped", (("reason", "test_reason"), ("signal", "logs")))
    after = {p.key: p.value for p in registry.points()}
    assert after[key] - before.get(key, 0) == 3  # type: ignore[operator]
