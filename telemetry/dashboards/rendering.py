"""Write the dashboards' JSON: the same code gives the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from telemetry.dashboards import container, cost, logs, overview, pipeline, services
from telemetry.dashboards.dashboard import grafana_model
from telemetry.errors import TelemetryError

# Every dashboard, in reading order: a file each, whose `build` declares it.
DASHBOARDS = (overview, container, cost, services, logs, pipeline)


def text(dashboard: Dashboard) -> str:
    """Return a dashboard's JSON as it is committed: keys sorted, two spaces, a final newline."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def render(folder: Path) -> list[Path]:
    """Write the files; see `telemetry.dashboards.render`."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for module in DASHBOARDS:
            dashboard = module.build()
            file = folder / f"{dashboard.uid}.json"
            file.write_text(text(grafana_model(dashboard)), encoding="utf-8")
            written.append(file)
    except OSError as error:
        raise TelemetryError(
            f"{folder}: the dashboards can't be written there: {error.strerror}",
            remedy="choose a writable folder",
        ) from error
    return sorted(written)
