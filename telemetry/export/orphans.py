"""Export the last values of workers that died before exporting them."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.sdk.resources import Resource

from telemetry.export.sender import Batches
from telemetry.metrics.derived import NamespacedHTTP
from telemetry.metrics.multiprocess import RunFolder
from telemetry.metrics.points import Point


def export_orphans(folder: RunFolder, send: Callable[[Batches], bool]) -> None:
    """Export the last values of dead workers from the run folder.

    Args:
        folder: the run folder.
        send: exports; returns False if that failed: the next call tries again.
    """
    for file, points in folder.orphans():
        totals = [p for p in points if p.metric.kind in ("counter", "histogram")]
        ends = [
            Point(p.metric, p.attributes, None, p.start_time_ns)
            for p in points
            if p.metric.kind == "updowncounter"
        ]
        derived = [p for name in file.namespaces for p in NamespacedHTTP(name)(totals)]
        resource = Resource(dict(file.resource))
        if send([(resource, [*totals, *derived, *ends])]):
            folder.done(file.instance)
