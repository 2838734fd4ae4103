"""What `/metrics` shows: this process, its siblings living and gone, and the sources."""

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


class Shown:
    """Collects and renders on demand.

    Args:
        registry: this process's series.
        meters: what it records with the OpenTelemetry API.
    """

    def __init__(self, registry: Registry, meters: Meters) -> None:
        self.folder: RunFolder | None = None
        """Of the run that this process is a worker of."""
        self._registry = registry
        self._meters = meters
        self._renderer = Renderer()

    def points(self) -> list[Point]:
        """All of it, with what the app recorded with the OpenTelemetry API. Blocks."""
        recorded = merged(from_sdk(self._meters.collect()))
        if self.folder is not None:
            # The SDK counts for this worker alone; unlabelled, its counters would seem to fall
            # whenever another worker answers.
            worker = {"worker": str(os.getpid())}
            recorded = [replace(p, attributes=dict(p.key[1]) | worker) for p in recorded]
        return [*self.own_points(), *recorded]

    def own_points(self) -> list[Point]:
        """`points` without what went through the OpenTelemetry API. Blocks."""
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

    def page(self, openmetrics: bool) -> list[bytes]:
        """The page's parts, in Prometheus' text format or as OpenMetrics. Blocks."""
        return self._renderer.chunks(
            self.points(), self._registry.metrics(), openmetrics=openmetrics
        )
