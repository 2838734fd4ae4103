"""docs/dashboards.md lists every dashboard."""

from __future__ import annotations

import re
from pathlib import Path

from telemetry.dashboards.inventory import dashboards

TEXT = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text()


def test_table_has_title_uid_and_description_of_every_dashboard() -> None:
    rows = re.findall(r"(?m)^\| .* \| `telemetry-\w+` \| .* \|$", TEXT)
    assert sorted(rows) == sorted(
        f"| {model['title']} | `{model['uid']}` | {model['description']} |"
        for model in dashboards()
    )
