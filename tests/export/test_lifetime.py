"""The lifecycle of a pipeline: intervals, the last export, workers, forks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from opentelemetry import metrics as otel_metrics

from telemetry.export.pipeline import Pipeline
from tests.export.conftest import NO_RECORDED_VALUE, OPEN, ORDERS, Make, attributes, series
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until


def test_pipeline_exports_at_its_interval(make: Make, otlp: Receiver) -> None:
    make(OTEL_METRIC_EXPORT_INTERVAL="20").registry.instrument(ORDERS).at({}).cells[0] = 1
    until(lambda: len(otlp.metrics) > 2, what="three exports")


def test_shutdown_exports_the_rest_and_ends_updowncounters(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    pipeline.registry.instrument(OPEN).at({}).cells[0] = 2
    pipeline.registry.instrument(ORDERS).at({}).cells[0] = 2
    pipeline.shutdown()
    found = series(otlp.metrics[-1])
    assert [p.flags for p in found["shop.open", "{}"]] == [NO_RECORDED_VALUE]
    assert [p.as_double for p in found["shop.orders", "{}"]] == [0, 2]
    pipeline.start()
    assert pipeline.flush_metrics(), "the pipeline stays stopped"
    assert not [t for t in threading.enumerate() if t.name == "telemetry-metrics"]


def test_no_exporter_sends_nothing(make: Make, otlp: Receiver) -> None:
    assert make(OTEL_METRICS_EXPORTER="none").flush_metrics()
    assert otlp.requests == 0


def test_disabled_sdk_starts_nothing(make: Make, otlp: Receiver) -> None:
    before = set(threading.enumerate())
    pipeline = make(OTEL_SDK_DISABLED="true")
    assert not set(threading.enumerate()) - before
    pipeline.finish()
    assert pipeline.flush()
    assert otlp.requests == 0


def test_second_finish_does_not_wait_after_failed_first(make: Make, otlp: Receiver) -> None:
    pipeline = make()
    otlp.status = 400
    pipeline.finish()
    assert pipeline._gave_up
    otlp.status = 200
    pipeline.finish()
    until(lambda: otlp.metrics, what="the second attempt")


def test_counts_of_shut_down_worker_stay_in_run_and_are_not_doubled(
    make: Make, tmp_path: Path
) -> None:
    first = make(TELEMETRY_RUN_DIR=str(tmp_path))
    first.registry.instrument(ORDERS).at({}).cells[0] = 5
    first.shutdown()
    second = Pipeline(first.settings, first.registry, service_name="shop")
    second.start()
    second.registry.instrument(ORDERS).at({}).cells[0] += 1
    totals = [p.value for p in second.page.points() if p.metric.name == ORDERS.name]
    second.shutdown()
    assert totals == [6]


def test_api_metrics_have_worker_label_in_run_folder(make: Make, tmp_path: Path) -> None:
    pipeline = make(TELEMETRY_RUN_DIR=str(tmp_path))
    otel_metrics.get_meter("shop.own").create_counter("own.several").add(1, {"a": "b"})
    (point,) = (p for p in pipeline.page.points() if p.metric.name == "own.several")
    assert dict(point.attributes) == {"a": "b", "worker": str(os.getpid())}


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
def test_parent_and_forked_child_export_their_own_counts(
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
    assert sorted(last.values()) == [4, 10], "two instances, each with its own counts only"
    assert list(depths.values()) == [7], "the child does not report the parent's gauge"
