"""Every query of the rendered dashboards: of panels, variables and annotations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from telemetry.dashboards.panel_ids import PANELS
from telemetry.system import packaged_files
from telemetry.system.units import parse_duration

DataSource = Literal["prometheus", "loki"]

LEAST_STEP_S = 5  # the data source's timeInterval in grafana/provisioning/datasources
POINTS = 600  # a graph's width in points on a usual screen
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
_LABEL_VALUES = re.compile(r"label_values\((.+),\s*\w+\)$")


class Query(NamedTuple):
    """One query of a dashboard.

    Args:
        dashboard: its uid.
        panel: the panel's name in `PANELS`, ``variable:<name>`` or ``annotation:<name>``.
        datasource: what is queried, and the language of ``expr``.
        expr: PromQL or LogQL, with the variables' values put in.
        instant: query the end of the time range only.
        range_s: length of the time range, s.
        step_s: time between points, s.
    """

    dashboard: str
    panel: str
    datasource: DataSource
    expr: str
    instant: bool
    range_s: int
    step_s: int


def substitute(expression: str, variables: Mapping[str, str]) -> str:
    """Replace each ``$name`` or ``${name}`` of ``expression``; leave ``$1`` as it is.

    Raises:
        KeyError: a variable has no value.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return match[0] if name.isdigit() else variables[name]

    return _VARIABLE.sub(value, expression)


def dashboards() -> list[dict[str, Any]]:
    """Return the rendered dashboards' JSON models, in order of their file names."""
    folder = packaged_files.path("grafana/dashboards")
    return [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))]


def all_queries(
    variables: Mapping[str, str] | None = None, *, range_s: int | None = None
) -> list[Query]:
    """List every query of every dashboard as Grafana would send it.

    Args:
        variables: selected values, e.g. ``{"handle": "demo-1"}``; the others select all.
        range_s: length of the time range, s (default: the dashboard's own).
    """
    return [
        query
        for model in dashboards()
        for query in _of(
            model, variables or {}, range_s or parse_duration(model["time"]["from"][4:])
        )
    ]


def _of(model: dict[str, Any], chosen: Mapping[str, str], range_s: int) -> Iterator[Query]:
    uid = model["uid"]
    names = {place: name for name, place in PANELS.items()}
    variables = model["templating"]["list"]
    values = {**{each["name"]: each.get("allValue", "") for each in variables}, **chosen}

    def query(
        name: str,
        source: DataSource,
        expr: str,
        least: str = "",
        *,
        instant: bool = False,
        points: int = POINTS,
    ) -> Query:
        least_s = parse_duration(least) if least else LEAST_STEP_S
        step_s = max(least_s, range_s // points)
        # https://grafana.com/docs/grafana/latest/datasources/prometheus/template-variables/
        times = {
            "__range": f"{range_s}s",
            "__interval": f"{step_s}s",
            "__rate_interval": f"{max(step_s + least_s, 4 * least_s)}s",
        }
        filled = substitute(expr, values | times)
        return Query(uid, name, source, filled, instant, range_s, step_s)

    for panel in model["panels"]:
        for target in panel.get("targets", ()):
            source = target["datasource"]["type"]
            instant = target.get("queryType") == "instant" or target.get("instant", False)
            least = target.get("interval", "")
            yield query(
                names[uid, panel["id"]],
                source,
                target["expr"],
                least,
                instant=instant,
                points=panel.get("maxDataPoints", POINTS),
            )
    for variable in variables:
        if variable["type"] == "query" and variable["datasource"]["type"] == "prometheus":
            found = _LABEL_VALUES.match(variable["query"]["query"])
            if found:
                yield query(f"variable:{variable['name']}", "prometheus", found[1], instant=True)
    for mark in model["annotations"]["list"]:
        if "expr" in mark:
            name, source = f"annotation:{mark['name']}", mark["datasource"]["type"]
            yield query(name, source, mark["expr"], mark["step"])
