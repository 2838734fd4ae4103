"""The page at `/metrics`: points of this process, of the run's other workers, and of sources."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

from telemetry.export.exposition import Renderer
from telemetry.metrics.multiprocess import RunFolder
from telemetry.metrics.points import Point, merged
from telemetry.metrics.registry import Registry
from telemetry.metrics.sdk_meters import Meters
from telemetry.otlp.points import from_sdk

_log = logging.getLogger(__name__)


class MetricsPage:
    """Collects and renders the page on request.

    Args:
        registry: this process's series.
        meters: metrics recorded with the OpenTelemetry API.
    """

    def __init__(self, registry: Registry, meters: Meters) -> None:
        self.folder: RunFolder | None = None
        """The run folder, if this process is a worker of a run."""
        self._registry = registry
        self._meters = meters
        self._renderer = Renderer()

    def points(self) -> list[Point]:
        """Collect all points, with those recorded with the OpenTelemetry API. Blocks."""
        recorded = merged(from_sdk(self._meters.collect()))
        if self.folder is not None:
            # The SDK counts only this worker. Without the label its counters would seem to fall
            # when another worker responds.
            worker = {"worker": str(os.getpid())}
            recorded = [replace(p, attributes=dict(p.key[1]) | worker) for p in recorded]
        return [*self.own_points(), *recorded]

    def own_points(self) -> list[Point]:
        """Collect the points not recorded with the OpenTelemetry API. Blocks."""
        points = self._registry.points()
        if self.folder is not None:
            points = merged([*points, *self.folder.others()])
        points += self._registry.derived(points)
        for source in tuple(self._registry.sources):
            try:
                points += source.collect()
            except Exception:
                _log.exception("telemetry: source %r could not be collected", source)
        return points

    def render(self, openmetrics: bool) -> list[bytes]:
        """Render the page's parts, in Prometheus' text format or OpenMetrics. Blocks."""
        return self._renderer.chunks(
            self.points(), self._registry.metrics(), openmetrics=openmetrics
        )
