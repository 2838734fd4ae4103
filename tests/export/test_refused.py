"""Refused exports are counted and retried; a failing part loses only its own points."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from telemetry import metrics
from telemetry.export import pipeline as export_pipeline
from telemetry.export import sender
from telemetry.metrics.points import Point
from telemetry.settings.library import Settings
from tests.export.conftest import OPEN, ORDERS, Make, resources, series
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until


def test_refused_export_is_counted_and_next_export_has_all_values(
    make: Make, otlp: Receiver
) -> None:
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


def test_hanging_collector_does_not_block_flush_beyond_timeout(make: Make, otlp: Receiver) -> None:
    pipeline = make(OTEL_METRIC_EXPORT_TIMEOUT="60000")
    otlp.answering.clear()
    assert not pipeline.flush_metrics(timeout_s=0.05)
    pipeline.registry.instrument(ORDERS).at({}).cells[0] = 1  # counting doesn't block
    otlp.answering.set()
    assert until(lambda: pipeline.flush_metrics(), what="an export") is not None


def test_raising_exporter_is_logged_and_thread_continues(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = make()
    real, failing = sender.to_sdk, [True]

    def to_sdk(*args: Any) -> Any:
        if failing:
            failing.pop()
            raise RuntimeError("cannot")
        return real(*args)

    monkeypatch.setattr(sender, "to_sdk", to_sdk)
    assert not pipeline.flush_metrics()
    assert "an export of metrics failed" in caplog.text
    assert pipeline.flush_metrics()


def test_failing_source_loses_only_its_own_points(make: Make, otlp: Receiver) -> None:
    class Failing:
        resource: ClassVar = {"service.name": "ledger"}
        metrics = (ORDERS,)

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
    shown = [p for p in pipeline.page.points() if p.metric.name == "shop.orders"]
    assert len(shown) == 2, "a source that doesn't lead is on the page all the same"


def test_failed_start_is_logged_and_app_continues(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(settings: Settings, signal: str) -> Any:
        raise RuntimeError("no exporter")

    pipeline = make(start=False)
    monkeypatch.setattr(export_pipeline, "exporters", broken)
    pipeline.start()
    assert "the app runs without it" in caplog.text
    assert pipeline.flush_metrics()


def test_unusable_run_folder_is_logged_and_own_counts_are_exported(
    make: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path, otlp: Receiver
) -> None:
    pipeline = make(TELEMETRY_RUN_DIR=str(tmp_path / "gone"))
    assert "reports only its own counts" in caplog.text
    pipeline.registry.instrument(ORDERS).at({}).cells[0] = 1
    assert pipeline.flush_metrics()
    assert ("shop.orders", "{}") in series(otlp.metrics[-1])


def test_dropped_items_are_counted_by_signal_and_reason() -> None:
    registry = metrics.current()
    before = {p.key: p.value for p in registry.points()}
    metrics.dropped("logs", "test_reason", 3)
    key = ("telemetry.dropped", (("reason", "test_reason"), ("signal", "logs")))
    after = {p.key: p.value for p in registry.points()}
    assert after[key] - before.get(key, 0) == 3  # type: ignore[operator]
