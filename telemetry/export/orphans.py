"""What workers leave behind that die before they could export it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import Resource

from telemetry.metrics.derived import NamespacedHTTP
from telemetry.metrics.multiprocess import RunFolder
from telemetry.metrics.points import Point
from telemetry.metrics.registry import Registry
from telemetry.settings.library import Settings

if TYPE_CHECKING:
    from telemetry.export.pipeline import Pipeline


def export_orphans(folder: RunFolder, pipeline: Pipeline) -> None:
    """Export the last values of workers that died without doing so themselves."""
    for file, points in folder.orphans():
        totals = [p for p in points if p.metric.kind in ("counter", "histogram")]
        ends = [
            Point(p.metric, p.attributes, None, p.start_time_ns)
            for p in points
            if p.metric.kind == "updowncounter"
        ]
        derived = [p for name in file.namespaces for p in NamespacedHTTP(name)(totals)]
        resource = Resource(dict(file.resource))
        if pipeline.send([(resource, [*totals, *derived, *ends])]):
            folder.done(file.instance)


def adopt(run_dir: Path) -> bool:
    """Export what the workers of a finished run left behind; for the parent of a run.

    Args:
        run_dir: the run folder; its workers have exited.

    Returns:
        Whether everything has been exported.
    """
    from telemetry.export.pipeline import Pipeline
    from telemetry.otlp import points as otlp_points

    folder = RunFolder(run_dir)
    if not any(True for _ in folder.orphans()):
        return True
    settings = Settings.from_env()
    pipeline = Pipeline(settings, Registry())
    pipeline.exporters = otlp_points.exporters(settings)
    export_orphans(folder, pipeline)
    return not any(True for _ in folder.orphans())
