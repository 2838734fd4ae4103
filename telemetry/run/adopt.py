"""Export orphans in the parent of a run, after its last worker has exited."""

from __future__ import annotations

import os
from pathlib import Path

from telemetry.export.orphans import export_orphans
from telemetry.export.sender import Sender
from telemetry.metrics.multiprocess import RunFolder
from telemetry.metrics.registry import Registry
from telemetry.otlp.exporter_logs import Outage
from telemetry.otlp.exporters import exporters
from telemetry.settings.library import Settings


def adopt(run_dir: Path) -> bool:
    """Export the orphans of a finished run.

    Args:
        run_dir: the run folder; its workers have exited.

    Returns:
        Whether all of them have been exported.
    """
    folder = RunFolder(run_dir)
    if not any(True for _ in folder.orphans()):
        return True
    settings = Settings.from_env(os.environ)
    outage = Outage("metrics", settings.otlp["metrics"].address)
    sender = Sender(exporters(settings, "metrics"), Registry(), settings.export_timeout_s, outage)
    export_orphans(folder, sender.send)
    return not any(True for _ in folder.orphans())
