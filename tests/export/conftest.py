"""A pipeline that exports on request, and readers of what its receiver got."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from telemetry.catalog import Metric
from telemetry.export.pipeline import Pipeline
from telemetry.metrics.registry import Registry
from telemetry.settings.library import Settings
from tests.fixtures.otlp import Receiver

ORDERS = Metric("shop.orders", "counter", "{order}", "Orders.", ("country",))
OPEN = Metric("shop.open", "updowncounter", "{order}", "Orders open.")
TIME = Metric("shop.time", "histogram", "s", "Time.", (), (1.0, 2.0))
NO_RECORDED_VALUE = 1

Make = Callable[..., Pipeline]


@pytest.fixture
def make(otlp: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Create started pipelines with their own registries, which export only on request."""
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
    """Group data points by metric and attributes, in the order they were sent."""
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
