"""What every panel, variable and annotation of the shipped dashboards asks its data source."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from telemetry import files
from telemetry.dashboards.identifiers import PANELS

DataSource = Literal["prometheus", "loki"]

# What a freshly opened dashboard would put in: everything selected, an hour, nothing searched.
DEFAULTS: Mapping[str, str] = {
    "handle": ".*",
    "service": ".+",
    "user_id": ".*",
    "level": ".*",
    "search": "",
    "trace_id": "",
    "__range": "3600s",
    "__rate_interval": "1m",
    "__interval": "1m",
}
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
_LABEL_VALUES = re.compile(r"label_values\((.+),\s*\w+\)$")


class Query(NamedTuple):
    """One query of a dashboard.

    Args:
        dashboard: its uid.
        panel: the panel's semantic name, ``variable:<name>`` or ``annotation:<name>``.
        datasource: whose language it is.
        expr: PromQL or LogQL, with the variables' values put in.
    """

    dashboard: str
    panel: str
    datasource: DataSource
    expr: str


def substitute(expression: str, variables: Mapping[str, str]) -> str:
    """``expression`` with each ``$name`` or ``${name}`` replaced.

    Raises:
        KeyError: a variable has no value. ``$1`` in a replacement text is left alone.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return match[0] if name.isdigit() else variables[name]

    return _VARIABLE.sub(value, expression)


def dashboards() -> list[dict[str, Any]]:
    """The shipped dashboards' JSON models, by file name."""
    folder = files.path("grafana/dashboards")
    return [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))]


def all_queries(variables: Mapping[str, str] | None = None) -> list[Query]:
    """Every query of every shipped dashboard, ready to be run.

    Args:
        variables: values that replace those of `DEFAULTS`, e.g. ``{"handle": "demo-1"}``.
    """
    values = {**DEFAULTS, **(variables or {})}
    return [
        query._replace(expr=substitute(query.expr, values))
        for model in dashboards()
        for query in _of(model)
    ]


def _of(model: dict[str, Any]) -> Iterator[Query]:
    uid = model["uid"]
    names = {place: name for name, place in PANELS.items()}
    for panel in model["panels"]:
        for target in panel.get("targets", ()):
            kind = target["datasource"]["type"]
            yield Query(uid, names[uid, panel["id"]], kind, target["expr"])
    for variable in model["templating"]["list"]:
        if variable["type"] == "query" and variable["datasource"]["type"] == "prometheus":
            found = _LABEL_VALUES.match(variable["query"]["query"])
            if found:
                yield Query(uid, f"variable:{variable['name']}", "prometheus", found[1])
    for annotation in model["annotations"]["list"]:
        if "expr" in annotation:
            kind = annotation["datasource"]["type"]
            yield Query(uid, f"annotation:{annotation['name']}", kind, annotation["expr"])
