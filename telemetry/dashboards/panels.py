"""Panels in this project's look, built with the SDK; ids come from `identifiers`.

Everything written here is understood by Grafana 9.4 and by today's: schema version 37, whose
later changes Grafana migrates itself when it loads a dashboard.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    timeseries,
)
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import piechart as piechart_model

from telemetry.dashboards.panel_ids import BY_DAYS, PANELS
from telemetry.dashboards.style import GREEN, Steps, Texts, mappings, thresholds
from telemetry.dashboards.targets import LOKI_REF, PROMETHEUS_REF, Ask, letter, target

# Behind a number 150 pixels wide more are not to be seen, and a thousand containers would be
# looked through for each.
SPARK_POINTS = 60
_BARS = 20  # more are not to be read
# An axis over nothing but zeros else ends at 100: 100 requests a second, or 10000 %.
_LEAST_TOP = {"percentunit": 0.1, "reqps": 0.1, "ops": 0.1, "opm": 1.0}


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
    mappings: Texts = ()
    least: float | None = None
    most: float | None = None
    decimals: int | None = None
    empty: str = ""


def stat_panel(
    about: About, *asks: Ask, background: bool = True, names: bool = False
) -> model.Panel:
    """One big number (or one per query, with ``names``), coloured by its thresholds.

    Its course is drawn behind it where it isn't asked for instantly.
    """
    course = not all(ask.instant for ask in asks)
    builder = (
        stat.Panel()
        .graph_mode(looks.BigValueGraphMode.AREA if course else looks.BigValueGraphMode.NONE)
        .color_mode(
            looks.BigValueColorMode.BACKGROUND if background else looks.BigValueColorMode.VALUE
        )
        .text_mode(looks.BigValueTextMode.VALUE_AND_NAME if names else looks.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    panel = finished(builder.build(), about, asks, colour="thresholds")
    if course:
        panel.max_data_points = SPARK_POINTS
    return panel


def lines(
    about: About,
    *asks: Ask,
    stacked: bool = False,
    bars: bool = False,
    limits: bool = False,
    legend: Literal["list", "table"] = "list",
    overrides: Sequence[model.DashboardFieldConfigSourceOverrides] = (),
    points: int | None = None,
) -> model.Panel:
    """Series over time; ``limits`` draws the thresholds as dashed lines, ``points`` are at most
    drawn, else one a pixel."""
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
    top = 1.0 if about.decimals == 0 else _LEAST_TOP.get(about.unit)
    if top and about.most is None:
        builder.axis_soft_max(top)
    if bars:
        builder.bar_alignment(looks.BarAlignment.AFTER)
    if limits:
        builder.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(looks.GraphTresholdsStyleMode.DASHED)
        )
    panel = finished(builder.build(), about, asks, colour="palette-classic")
    panel.field_config.overrides = list(overrides)
    panel.max_data_points = points
    if about.empty:
        # The text would stand at every tick that whole numbers leave out, too.
        panel.field_config.defaults.decimals = None
    return panel


def bar_gauge(about: About, *asks: Ask, links: Sequence[tuple[str, str]] = ()) -> model.Panel:
    """A bar a series, by its newest value; ``links`` (title, address) open from a bar."""
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
    if asks[0].source == "loki" and asks[0].instant:
        # Grafana makes one table of what Loki answers at once: a bar a row, then.
        reduced = reduced.values(True).limit(_BARS)
    builder = (
        bargauge.Panel()
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .orientation(looks.VizOrientation.HORIZONTAL)
        .reduce_options(reduced)
    )
    panel = finished(builder.build(), about, asks, colour="thresholds")
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
    return finished(builder.build(), about, asks, colour="thresholds")


def donut(about: About, *asks: Ask) -> model.Panel:
    """Shares of a whole."""
    builder = (
        piechart.Panel()
        .pie_type(piechart_model.PieChartType.DONUT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .legend(
            piechart.PieChartLegendOptions()
            .display_mode(looks.LegendDisplayMode.TABLE)
            # Beside the ring half of the table's columns would be cut off.
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(True)
            .values(
                [
                    piechart_model.PieChartLegendValues.VALUE,
                    piechart_model.PieChartLegendValues.PERCENT,
                ]
            )
        )
    )
    return finished(builder.build(), about, asks, colour="palette-classic")


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
    return finished(builder.build(), about, [ask], colour="thresholds")


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
    return finished(builder.build(), about, [ask], colour="thresholds")


def opens(panel: model.Panel, title: str, uid: str) -> model.Panel:
    """``panel``, with a link to a dashboard in its corner."""
    time = "" if uid in BY_DAYS else "${__url_time_range}&"
    panel.links = [
        model.DashboardLink(
            title=title,
            type_val=model.DashboardLinkType.LINK,
            url=f"/d/{uid}?{time}${{__all_variables}}",
        )
    ]
    return panel


def alert_list(about: About) -> model.Panel:
    """What fires now: Grafana's own rules and those of the data sources."""
    panel = finished(model.Panel(type_val="alertlist"), about, (), colour="thresholds")
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


def finished(panel: model.Panel, about: About, asks: Sequence[Ask], *, colour: str) -> model.Panel:
    _, panel.id_val = PANELS[about.name]
    panel.title = about.title
    panel.description = about.description
    loki = bool(asks) and asks[0].source == "loki"
    panel.datasource = LOKI_REF if loki else PROMETHEUS_REF
    panel.targets = [target(ask, letter(place)) for place, ask in enumerate(asks)]
    defaults = panel.field_config.defaults
    defaults.unit = about.unit
    defaults.decimals = about.decimals
    defaults.min_val = about.least
    defaults.max_val = about.most
    defaults.no_value = about.empty or None
    defaults.mappings = list(mappings(about.mappings))
    defaults.thresholds = thresholds(about.steps)
    defaults.color = model.FieldColor(mode=model.FieldColorModeId(colour))
    return panel
