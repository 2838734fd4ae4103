"""Panels in this project's style, built with Grafana's SDK.

Grafana 9.4 and later versions understand them: the schema version is 37, and a later Grafana
migrates it when it loads a dashboard.
"""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    logs,
    piechart,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.builders import stat as stat_builder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import piechart as piechart_model

from telemetry.dashboards.panel_ids import BY_DAYS, PANELS
from telemetry.dashboards.style import PLAIN, Override, Scale, mappings, thresholds
from telemetry.dashboards.targets import LOKI_REF, PROMETHEUS_REF, Target, grafana_target, letter

# Behind a number that is 150 pixels wide, more points would not be visible, and each is a query
# over all containers.
SPARK_POINTS = 60
_BARS = 20  # more would be unreadable
# The least end of an axis. Grafana ends an axis of zeros at 100, which of shares is 10000 %.
_LEAST_TOP = {"percentunit": 0.1, "reqps": 0.1, "ops": 0.1, "opm": 1.0}


def panel(name: str, title: str, description: str, drawn: model.Panel) -> model.Panel:
    """Make a panel of a dashboard from its texts and its drawing.

    Args:
        name: its key in `PANELS`.
        title: short, as shown.
        description: what it shows, and when to act.
        drawn: the visualization, from one of this module's functions or `key_table`.
    """
    _, drawn.id_val = PANELS[name]
    drawn.title = title
    drawn.description = description
    return drawn


def stat(
    *targets: Target, scale: Scale = PLAIN, background: bool = True, names: bool = False
) -> model.Panel:
    """Draw one big number, coloured by the scale's steps, over its graph if it has a range.

    Args:
        background: colour the background, not the number.
        names: show a number for each query, with its name.
    """
    course = not all(target.instant for target in targets)
    builder = (
        stat_builder.Panel()
        .graph_mode(looks.BigValueGraphMode.AREA if course else looks.BigValueGraphMode.NONE)
        .color_mode(
            looks.BigValueColorMode.BACKGROUND if background else looks.BigValueColorMode.VALUE
        )
        .text_mode(looks.BigValueTextMode.VALUE_AND_NAME if names else looks.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    panel = finish(builder.build(), targets, scale, colour="thresholds")
    if course:
        panel.max_data_points = SPARK_POINTS
    return panel


def lines(
    *targets: Target,
    scale: Scale = PLAIN,
    stacked: bool = False,
    limits: bool = False,
    overrides: Sequence[Override] = (),
    points: int | None = None,
) -> model.Panel:
    """Draw series over time.

    Args:
        stacked: draw them one above the other, so that the top is the sum.
        limits: draw the scale's steps as dashed lines.
        points: maximum number of points; None for one a pixel.
    """
    builder = (
        _graph(stacked=stacked)
        .draw_style(looks.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(12)
        .show_points(looks.VisibilityMode.AUTO)
    )
    if limits:
        builder.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(looks.GraphTresholdsStyleMode.DASHED)
        )
    panel = _graphed(builder, targets, scale, overrides)
    panel.max_data_points = points
    return panel


def bars(*targets: Target, scale: Scale = PLAIN, overrides: Sequence[Override] = ()) -> model.Panel:
    """Draw a bar for each step, with the series one above the other."""
    builder = (
        _graph(stacked=True)
        .draw_style(looks.GraphDrawStyle.BARS)
        .line_width(0)
        .fill_opacity(70)
        .show_points(looks.VisibilityMode.NEVER)
        .bar_alignment(looks.BarAlignment.AFTER)
    )
    return _graphed(builder, targets, scale, overrides)


def _graph(*, stacked: bool) -> timeseries.Panel:
    mode = looks.StackingMode.NORMAL if stacked else looks.StackingMode.NONE
    return (
        timeseries.Panel()
        .stacking(common.StackingConfig().mode(mode))
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(looks.TooltipDisplayMode.MULTI)
            .sort(looks.SortOrder.DESCENDING)
        )
    )


def _graphed(
    builder: timeseries.Panel,
    targets: Sequence[Target],
    scale: Scale,
    overrides: Sequence[Override],
) -> model.Panel:
    top = 1.0 if scale.decimals == 0 else _LEAST_TOP.get(scale.unit)
    if top and scale.most is None:
        builder.axis_soft_max(top)
    panel = finish(builder.build(), targets, scale, colour="palette-classic")
    panel.field_config.overrides = list(overrides)
    if scale.empty:
        # Grafana 9.4 would write the text beside the ticks that whole numbers leave out, too.
        panel.field_config.defaults.decimals = None
    return panel


def bar_gauge(
    target: Target, *, scale: Scale = PLAIN, links: Sequence[tuple[str, str]] = ()
) -> model.Panel:
    """Draw a bar for each series' newest value; ``links`` (title, address) open from it."""
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
    if target.source == "loki" and target.instant:
        # Grafana makes one table of Loki's instant answer: draw a bar for each row.
        reduced = reduced.values(True).limit(_BARS)
    builder = (
        bargauge.Panel()
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .orientation(looks.VizOrientation.HORIZONTAL)
        .reduce_options(reduced)
    )
    panel = finish(builder.build(), [target], scale, colour="thresholds")
    panel.field_config.defaults.links = [
        model.DashboardLink(title=title, url=url, type_val=model.DashboardLinkType.LINK)
        for title, url in links
    ] or None
    return panel


def timeline(target: Target, *, scale: Scale) -> model.Panel:
    """Draw states over time, a row for each series."""
    builder = (
        statetimeline.Panel()
        .merge_values(True)
        .show_value(looks.VisibilityMode.NEVER)
        .row_height(0.8)
        .fill_opacity(80)
        .line_width(0)
    )
    return finish(builder.build(), [target], scale, colour="thresholds")


def donut(target: Target, *, scale: Scale) -> model.Panel:
    """Draw shares of a whole."""
    builder = (
        piechart.Panel()
        .pie_type(piechart_model.PieChartType.DONUT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .legend(
            piechart.PieChartLegendOptions()
            .display_mode(looks.LegendDisplayMode.TABLE)
            # Beside the ring, half of the table's columns would be cut off.
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
    return finish(builder.build(), [target], scale, colour="palette-classic")


def heat(target: Target, *, scale: Scale) -> model.Panel:
    """Draw a histogram over time, from its buckets."""
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
        .y_axis(heatmap.YAxisConfig().unit(scale.unit).axis_placement(looks.AxisPlacement.LEFT))
        .cell_gap(1)
    )
    return finish(builder.build(), [target], scale, colour="thresholds")


def log_lines(target: Target) -> model.Panel:
    """Show log lines, newest first, with details on a click."""
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
    return finish(builder.build(), [target], PLAIN, colour="thresholds")


def add_link(panel: model.Panel, title: str, uid: str) -> None:
    """Link to a dashboard from the corner of ``panel``."""
    time = "" if uid in BY_DAYS else "${__url_time_range}&"
    panel.links = [
        model.DashboardLink(
            title=title,
            type_val=model.DashboardLinkType.LINK,
            url=f"/d/{uid}?{time}${{__all_variables}}",
        )
    ]


def alert_list() -> model.Panel:
    """List what fires now: Grafana's own rules and those of the data sources."""
    panel = finish(model.Panel(type_val="alertlist"), (), PLAIN, colour="thresholds")
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


def finish(
    panel: model.Panel, targets: Sequence[Target], scale: Scale, *, colour: str
) -> model.Panel:
    """Set the queries of ``panel``, and how its numbers are read."""
    loki = bool(targets) and targets[0].source == "loki"
    panel.datasource = LOKI_REF if loki else PROMETHEUS_REF
    panel.targets = [grafana_target(target, letter(place)) for place, target in enumerate(targets)]
    defaults = panel.field_config.defaults
    defaults.unit = scale.unit
    defaults.decimals = scale.decimals
    defaults.min_val = scale.least
    defaults.max_val = scale.most
    defaults.no_value = scale.empty or None
    defaults.mappings = list(mappings(scale.texts))
    defaults.thresholds = thresholds(scale.steps)
    defaults.color = model.FieldColor(mode=model.FieldColorModeId(colour))
    return panel
