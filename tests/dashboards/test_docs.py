"""docs/dashboards.md names the dashboards there are."""

from __future__ import annotations

import re
from pathlib import Path

from telemetry.dashboards.inventory import dashboards

TEXT = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text()


def test_every_dashboard_is_listed_by_its_title_and_uid() -> None:
    listed = dict(re.findall(r"(?m)^\| ([^|]+) \| `(telemetry-\w+)` \|", TEXT))
    assert listed == {model["title"]: model["uid"] for model in dashboards()}
