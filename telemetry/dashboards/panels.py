"""Panels in this project's look, built with the SDK; ids come from `identifiers`.

Everything written here is understood by Grafana 9.4 and by today's: schema version 37, whose
later changes Grafana migrates itself when it loads a dashboard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    logs,
    piechart,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import loki as loki_query
from grafana_foundation_sdk.builders import prometheus as prometheus_query
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import piechart as piechart_model
from grafana_foundation_sdk.models import prometheus as prometheus_model

from telemetry.dashboards.identifiers import LOKI, PANELS, PROMETHEUS

GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
Source = Literal["prometheus", "loki"]
Steps = tuple[tuple[float, str], ...]
CALM: Steps = ((0, BLUE),)  # a number that is neither good nor bad

PROMETHEUS_REF = model.DataSourceRef(type_val="prometheus", uid=PROMETHEUS)
LOKI_REF = model.DataSourceRef(type_val="loki", uid=LOKI)


@dataclass(frozen=True)
class Ask:
    """A query with what its answer is called.

    Args:
        expr: PromQL or LogQL.
        legend: the series' name, with ``{{label}}``; empty for all labels.
        instant: only the value at the end of the time range.
        step: least time between points, e.g. ``1d``; empty for Grafana's choice.
        source: which data source answers.
        form: what Grafana makes of the answer.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    step: str = ""
    source: Source = "prometheus"
    form: Literal["time_series", "table", "heatmap"] = "time_series"


@dataclass(frozen=True)
class About:
    """What a panel says of itself and how its numbers are read.

    Args:
        name: its key in `PANELS`.
        title: short, as shown.
        description: what is counted, and when to worry.
        unit: Grafana's unit id.
        steps: rising (from value, colour); the first also holds below its value.
        mappings: texts for values.
        least, most: the axis' or bar's ends.
        decimals: digits after the point; None leaves it to Grafana.
        empty: shown where there is no data.
    """

    name: str
    title: str
    description: str
    unit: str = "short"
    steps: Steps = ((0, GREEN),)
    mappings: tuple[tuple[float, str, str], ...] = ()
    least: float | None = None
    most: float | None = None
    decimals: int | None = None
    empty: str = ""


def stat_panel(
    about: About, *asks: Ask, spark: bool = True, background: bool = True, names: bool = False
) -> model.Panel:
    """One big number (or one per query, with ``names``), coloured by its thresholds."""
    builder = (
        stat.Panel()
        .graph_mode(looks.BigValueGraphMode.AREA if spark else looks.BigValueGraphMode.NONE)
        .color_mode(
            looks.BigValueColorMode.BACKGROUND if background else looks.BigValueColorMode.VALUE
        )
        .text_mode(looks.BigValueTextMode.VALUE_AND_NAME if names else looks.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    return _finished(builder.build(), about, asks, colour="thresholds")


def lines(
    about: About,
    *asks: Ask,
    stacked: bool = False,
    bars: bool = False,
    limits: bool = False,
    legend: Literal["list", "table"] = "list",
    overrides: Sequence[model.DashboardFieldConfigSourceOverrides] = (),
) -> model.Panel:
    """Series over time; ``limits`` draws the thresholds as dashed lines."""
    table_legend = legend == "table"
    builder = (
        timeseries.Panel()
        .draw_style(looks.GraphDrawStyle.BARS if bars else looks.GraphDrawStyle.LINE)
        .line_width(0 if bars else 1)
        .fill_opacity(70 if bars else 12)
        .show_points(looks.VisibilityMode.NEVER if bars else looks.VisibilityMode.AUTO)
        .stacking(
            common.StackingConfig().mode(
                looks.StackingMode.NORMAL if stacked else looks.StackingMode.NONE
            )
        )
        .legend(
            common.VizLegendOptions()
            .display_mode(
                looks.LegendDisplayMode.TABLE if table_legend else looks.LegendDisplayMode.LIST
            )
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"] if table_legend else [])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(looks.TooltipDisplayMode.MULTI)
            .sort(looks.SortOrder.DESCENDING)
        )
    )
    if bars:
        builder.bar_alignment(looks.BarAlignment.AFTER)
    if limits:
        builder.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(looks.GraphTresholdsStyleMode.DASHED)
        )
    panel = _finished(builder.build(), about, asks, colour="palette-classic")
    panel.field_config.overrides = list(overrides)
    return panel


def bar_gauge(about: About, *asks: Ask, links: Sequence[tuple[str, str]] = ()) -> model.Panel:
    """A bar a series, by its newest value; ``links`` (title, address) open from a bar."""
    builder = (
        bargauge.Panel()
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .orientation(looks.VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    panel = _finished(builder.build(), about, asks, colour="thresholds")
    panel.field_config.defaults.links = [
        model.DashboardLink(title=title, url=url, type_val=model.DashboardLinkType.LINK)
        for title, url in links
    ] or None
    return panel


def timeline(about: About, *asks: Ask) -> model.Panel:
    """States over time, a row a series."""
    builder = (
        statetimeline.Panel()
        .merge_values(True)
        .show_value(looks.VisibilityMode.NEVER)
        .row_height(0.8)
        .fill_opacity(80)
        .line_width(0)
    )
    return _finished(builder.build(), about, asks, colour="thresholds")


def donut(about: About, *asks: Ask) -> model.Panel:
    """Shares of a whole."""
    builder = (
        piechart.Panel()
        .pie_type(piechart_model.PieChartType.DONUT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .legend(
            piechart.PieChartLegendOptions()
            .display_mode(looks.LegendDisplayMode.TABLE)
            .placement(looks.LegendPlacement.RIGHT)
            .show_legend(True)
            .values(
                [
                    piechart_model.PieChartLegendValues.VALUE,
                    piechart_model.PieChartLegendValues.PERCENT,
                ]
            )
        )
    )
    return _finished(builder.build(), about, asks, colour="palette-classic")


def heat(about: About, ask: Ask) -> model.Panel:
    """A histogram over time, from its buckets."""
    builder = (
        heatmap.Panel()
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_model.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .steps(64)
            .exponent(0.5)
            .scale(heatmap_model.HeatmapColorScale.EXPONENTIAL)
            .fill("dark-orange")
            .reverse(False)
        )
        .y_axis(heatmap.YAxisConfig().unit(about.unit).axis_placement(looks.AxisPlacement.LEFT))
        .cell_gap(1)
    )
    return _finished(builder.build(), about, [ask], colour="thresholds")


def log_lines(about: About, ask: Ask) -> model.Panel:
    """Log lines, newest first, details on a click."""
    builder = (
        logs.Panel()
        .show_time(True)
        .show_labels(False)
        .show_common_labels(False)
        .wrap_log_message(True)
        .prettify_log_message(False)
        .enable_log_details(True)
        .sort_order(looks.LogsSortOrder.DESCENDING)
        .dedup_strategy(looks.LogsDedupStrategy.NONE)
    )
    return _finished(builder.build(), about, [ask], colour="thresholds")


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
    mappings: tuple[tuple[float, str, str], ...] = ()
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
    values = [f"Value #{_letter(place)}" for place in range(len(columns))]
    order = [*keys, *values]
    builder = (
        table.Panel()
        .show_header(True)
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            model.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {name: place for place, name in enumerate(order)},
                    "renameByName": {
                        **keys,
                        **dict(zip(values, (column.title for column in columns), strict=True)),
                    },
                },
            )
        )
    )
    panel = _finished(builder.build(), about, asks, colour="thresholds")
    panel.field_config.defaults.custom = {
        "align": "auto",
        "displayMode": "auto",
        "filterable": True,
    }
    panel.field_config.overrides = [
        *(override(keys[label], links=_links(pairs)) for label, pairs in links.items()),
        *(_column_override(column) for column in columns),
    ]
    return panel


def override(name: str, **properties: object) -> model.DashboardFieldConfigSourceOverrides:
    """Settings of the field displayed as ``name``; ``custom__x`` is the property ``custom.x``."""
    return _override(model.MatcherConfig(id_val="byName", options=name), properties)


def override_like(pattern: str, **properties: object) -> model.DashboardFieldConfigSourceOverrides:
    """Settings of the fields whose displayed name matches the regular expression."""
    return _override(model.MatcherConfig(id_val="byRegexp", options=pattern), properties)


def opens(panel: model.Panel, title: str, uid: str) -> model.Panel:
    """``panel``, with a link to a dashboard in its corner."""
    panel.links = [
        model.DashboardLink(
            title=title,
            type_val=model.DashboardLinkType.LINK,
            url=f"/d/{uid}?${{__url_time_range}}&${{__all_variables}}",
        )
    ]
    return panel


def _override(
    matcher: model.MatcherConfig, properties: Mapping[str, object]
) -> model.DashboardFieldConfigSourceOverrides:
    return model.DashboardFieldConfigSourceOverrides(
        matcher,
        [
            model.DynamicConfigValue(name.replace("__", "."), value)
            for name, value in properties.items()
        ],
    )


def alert_list(about: About) -> model.Panel:
    """What fires now: Grafana's own rules and those of the data sources."""
    panel = _finished(model.Panel(type_val="alertlist"), about, (), colour="thresholds")
    panel.datasource = None
    panel.options = {
        "alertInstanceLabelFilter": "",
        "alertName": "",
        "dashboardAlerts": False,
        "groupBy": [],
        "groupMode": "default",
        "maxItems": 50,
        "sortOrder": 3,  # by importance
        "stateFilter": {
            "error": True,
            "firing": True,
            "noData": True,
            "normal": False,
            "pending": True,
            "recovering": True,
        },
        "viewMode": "list",
    }
    return panel


def _finished(panel: model.Panel, about: About, asks: Sequence[Ask], *, colour: str) -> model.Panel:
    _, panel.id_val = PANELS[about.name]
    panel.title = about.title
    panel.description = about.description
    loki = bool(asks) and asks[0].source == "loki"
    panel.datasource = LOKI_REF if loki else PROMETHEUS_REF
    panel.targets = [_target(ask, _letter(place)) for place, ask in enumerate(asks)]
    defaults = panel.field_config.defaults
    defaults.unit = about.unit
    defaults.decimals = about.decimals
    defaults.min_val = about.least
    defaults.max_val = about.most
    defaults.no_value = about.empty or None
    defaults.mappings = list(_mappings(about.mappings))
    defaults.thresholds = _thresholds(about.steps)
    defaults.color = model.FieldColor(mode=model.FieldColorModeId(colour))
    return panel


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _target(ask: Ask, ref: str) -> variants.Dataquery:
    if ask.source == "loki":
        query = loki_query.Dataquery().expr(ask.expr).ref_id(ref).datasource(LOKI_REF)
        query.query_type("instant" if ask.instant else "range")
        return (query.legend_format(ask.legend) if ask.legend else query).build()
    target = (
        prometheus_query.Dataquery()
        .expr(ask.expr)
        .ref_id(ref)
        .datasource(PROMETHEUS_REF)
        .editor_mode(prometheus_model.QueryEditorMode.CODE)
        .format(prometheus_model.PromQueryFormat(ask.form))
        .legend_format(ask.legend or "__auto")
    )
    if ask.step:
        target.interval(ask.step)
    return (target.instant() if ask.instant else target.range()).build()


def _mappings(texts: Sequence[tuple[float, str, str]]) -> Sequence[model.ValueMap]:
    if not texts:
        return ()
    return (
        model.ValueMap(
            options={
                f"{value:g}": model.ValueMappingResult(text=text, color=colour, index=place)
                for place, (value, text, colour) in enumerate(texts)
            }
        ),
    )


def _thresholds(steps: Steps) -> model.ThresholdsConfig:
    # The first step has no value: it holds for everything below the second.
    return model.ThresholdsConfig(
        mode=model.ThresholdsMode.ABSOLUTE,
        steps=[
            model.Threshold(value=value if place else None, color=colour)
            for place, (value, colour) in enumerate(steps)
        ],
    )


def _links(pairs: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    return [{"title": title, "url": url, "targetBlank": False} for title, url in pairs]


def _column_override(column: Column) -> model.DashboardFieldConfigSourceOverrides:
    properties: dict[str, object] = {"unit": column.unit}
    if column.mappings:
        properties["mappings"] = list(_mappings(column.mappings))
    if column.steps:
        properties["thresholds"] = _thresholds(column.steps)
        # The name that Grafana before 10 knows; later ones migrate it to custom.cellOptions.
        properties["custom.displayMode"] = "gradient-gauge" if column.bar else "color-text"
    if column.bar:
        properties |= {"min": 0, "max": 1}
    return _override(model.MatcherConfig(id_val="byName", options=column.title), properties)
