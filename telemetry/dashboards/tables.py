"""Tables with a row a combination of labels, each column a query of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models import dashboard as model

from telemetry.dashboards.panels import About, finished
from telemetry.dashboards.style import Steps, Texts, mappings, override, overriding, thresholds
from telemetry.dashboards.targets import Ask, letter


@dataclass(frozen=True)
class Column:
    """A table's column of numbers.

    Args:
        title: its heading.
        ask: PromQL for an instant vector that keeps the table's key labels.
        unit: Grafana's unit id.
        steps: as in `About`; coloured cells where there are several.
        mappings: texts for values.
        bar: drawn as a bar from 0 to 1.
    """

    title: str
    ask: str
    unit: str = "short"
    steps: Steps = ()
    mappings: Texts = ()
    bar: bool = False


def key_table(
    about: About,
    keys: Mapping[str, str],
    columns: Sequence[Column],
    links: Mapping[str, tuple[tuple[str, str], ...]],
    sort: str,
) -> model.Panel:
    """A table with a row a combination of key labels.

    Args:
        keys: label -> heading.
        columns: the numbers, each its own query.
        links: label -> (title, address) pairs that open from its cells.
        sort: heading of the column sorted by, greatest first.
    """
    asks = [Ask(column.ask, instant=True, form="table") for column in columns]
    values = [f"Value #{letter(place)}" for place in range(len(columns))]
    order = [*keys, *values]
    builder = (
        table.Panel()
        .show_header(True)
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        # Rows are merged where all else is the same, and times may not quite be.
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
                    "renameByName": {
                        **keys,
                        **dict(zip(values, (column.title for column in columns), strict=True)),
                    },
                },
            )
        )
    )
    panel = finished(builder.build(), about, asks, colour="thresholds")
    panel.field_config.defaults.custom = {
        "align": "auto",
        "displayMode": "auto",
        "filterable": True,
        "minWidth": 80,  # eleven columns fit at 1280 pixels
    }
    panel.field_config.overrides = [
        *(override(keys[label], links=_links(pairs)) for label, pairs in links.items()),
        *(_column_override(column) for column in columns),
    ]
    return panel


def _links(pairs: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    return [{"title": title, "url": url, "targetBlank": False} for title, url in pairs]


def _column_override(column: Column) -> model.DashboardFieldConfigSourceOverrides:
    properties: dict[str, object] = {"unit": column.unit}
    if column.unit.startswith("percent"):
        properties["decimals"] = 1
    if column.mappings:
        properties["mappings"] = list(mappings(column.mappings))
    if column.steps:
        properties["thresholds"] = thresholds(column.steps)
        # The name that Grafana before 10 knows; later ones migrate it to custom.cellOptions.
        properties["custom.displayMode"] = "gradient-gauge" if column.bar else "color-text"
    if column.bar:
        properties |= {"min": 0, "max": 1}
    return overriding(model.MatcherConfig(id_val="byName", options=column.title), properties)
