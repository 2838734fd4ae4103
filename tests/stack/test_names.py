"""A real Prometheus gives metrics from OTLP the same names as `/metrics`."""

from __future__ import annotations

import os

import pytest

from telemetry.catalog import METRICS
from telemetry.export.pipeline import Pipeline
from telemetry.metrics.registry import Registry
from telemetry.naming import label_name
from telemetry.settings.library import Settings
from tests.fixtures.stack import Stack, until

pytestmark = pytest.mark.stack


def test_every_metric_has_expected_name_and_labels_in_prometheus(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in stack.service_env().items():
        monkeypatch.setenv(name, value)
    environ = {**os.environ, "OTEL_LOGS_EXPORTER": "none"}
    pipeline = Pipeline(Settings.from_env(environ), Registry(), service_name="names")
    expected = {}
    for metric in METRICS.values():
        given = dict.fromkeys(metric.attributes, "x")
        cells = pipeline.registry.instrument(metric).at(given).cells
        cells[len(cells) - 1] = 1
        suffix = "_bucket" if metric.kind == "histogram" else ""
        labels = {label_name(key) for key in given} | ({"le"} if suffix else set())
        expected[metric.prometheus + suffix] = labels
    pipeline.start()
    try:
        assert pipeline.flush_metrics()

        def arrived() -> bool:
            found = {
                s["metric"]["__name__"]: set(s["metric"]) for s in stack.query('{job="names"}')
            }
            return all(
                labels <= found.get(name, set()) and found.get(name)
                for name, labels in expected.items()
            )

        until(arrived, what="every metric in Prometheus by its name and labels")
    finally:
        pipeline.shutdown()
