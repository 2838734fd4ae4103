"""Dashboards as code.

`PANELS` names every panel for those who link to one. The rest needs grafana-foundation-sdk and
is loaded when asked for: `render` writes the dashboards' JSON, `all_queries` lists what they ask
their data sources.
"""

from __future__ import annotations

from pathlib import Path

from telemetry.dashboards.inventory import Query, all_queries
from telemetry.dashboards.panel_ids import PANELS

__all__ = ["PANELS", "Query", "all_queries", "render"]


def render(folder: Path) -> list[Path]:
    """Write one JSON file per dashboard to ``folder``, always the same bytes.

    Returns:
        the files written, by name.

    Raises:
        TelemetryError: ``folder`` can't be written.
    """
    from telemetry.dashboards.rendering import render as write

    return write(folder)
