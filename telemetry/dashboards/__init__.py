"""Dashboards as code.

`PANELS` maps a panel's name to its dashboard and id, for links. `all_queries` lists the queries
of the rendered dashboards. `render` writes their JSON; it needs grafana-foundation-sdk, which is
imported only then.
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
