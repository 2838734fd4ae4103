"""Tables with a row for each combination of labels and a query for each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models import dashboard as model

from telemetry.dashboards.panels import finish
from telemetry.dashboards.style import (
    PLAIN,
    Override,
    Scale,
    Steps,
    Texts,
    mappings,
    override,
    overriding,
    thresholds,
)
from telemetry.dashboards.targets import Target, letter


@dataclass(frozen=True)
class Column:
    """A table's column of numbers.

    Args:
        title: heading.
        query: PromQL for an instant vector that keeps the table's key labels.
        unit: Grafana's unit id.
        steps: thresholds and their colours; empty for no colours.
        texts: shown for values.
        bar: draw a value as a bar from 0 to 1.
    """

    title: str
    query: str
    unit: str = "short"
    steps: Steps = ()
    texts: Texts = ()
    bar: bool = False


@dataclass(frozen=True)
class Key:
    """A label that identifies a table's rows.

    Args:
        label: name of the label.
        title: heading of its column.
        links: (title, address) pairs that open from its cells.
    """

    label: str
    title: str
    links: Sequence[tuple[str, str]] = ()


def key_table(
    keys: Sequence[Key], columns: Sequence[Column], *, sort: str, scale: Scale = PLAIN
) -> model.Panel:
    """Draw a table with a row for each combination of the keys' values.

    Args:
        columns: the numbers, a query each.
        sort: heading of the column to sort by, greatest first.
    """
    targets = [Target(column.query, instant=True, form="table") for column in columns]
    values = [f"Value #{letter(place)}" for place in range(len(columns))]
    order = [*(key.label for key in keys), *values]
    names = {key.label: key.title for key in keys}
    names |= dict(zip(values, (column.title for column in columns), strict=True))
    builder = (
        table.Panel()
        .show_header(True)
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        # Rows are merged if all their fields are equal, which times may not be.
        .with_transformation(
            model.DataTransformerConfig(
                id_val="filterFieldsByName", options={"exclude": {"names": ["Time"]}}
            )
        )
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            model.DataTransformerConfig(
                id_val="organize",
                options={
                    "indexByName": {name: place for place, name in enumerate(order)},
                    "renameByName": names,
                },
            )
        )
    )
    panel = finish(builder.build(), targets, scale, colour="thresholds")
    panel.field_config.defaults.custom = {
        "align": "auto",
        "displayMode": "auto",
        "filterable": True,
        "minWidth": 80,  # eleven columns fit into 1280 pixels
    }
    panel.field_config.overrides = [
        *(override(key.title, links=_links(key.links)) for key in keys if key.links),
        *(_column_override(column) for column in columns),
    ]
    return panel


def _links(pairs: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    return [{"title": title, "url": url, "targetBlank": False} for title, url in pairs]


def _column_override(column: Column) -> Override:
    properties: dict[str, object] = {"unit": column.unit}
    if column.unit.startswith("percent"):
        properties["decimals"] = 1
    if column.texts:
        properties["mappings"] = list(mappings(column.texts))
    if column.steps:
        properties["thresholds"] = thresholds(column.steps)
        # The name before Grafana 10; later versions migrate it to custom.cellOptions.
        properties["custom.displayMode"] = "gradient-gauge" if column.bar else "color-text"
    if column.bar:
        properties |= {"min": 0, "max": 1}
    return overriding(model.MatcherConfig(id_val="byName", options=column.title), properties)
