"""A dashboard around its panels: layout, variables, annotations, links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as model

from telemetry import catalog
from telemetry.dashboards.annotations import shown_annotations
from telemetry.dashboards.panel_ids import BY_DAYS
from telemetry.dashboards.targets import LOKI_REF, PROMETHEUS_REF

TAG = "telemetry"
COLUMNS = 24
# Of Grafana 9.4; later versions migrate it. Before 36 there are no data source references.
SCHEMA_VERSION = 37
_ROW_IDS = 1000  # rows' ids begin here, so that they never collide with panels' ids

TIME = "${__url_time_range}"


@dataclass(frozen=True)
class Band:
    """Panels side by side.

    Args:
        height: in grid units of 38 px.
        panels: from the left; a place holds one panel, or a list of them from the top.
        widths: of the places, in columns; 24 in total. Equal if not given.
        title: of a row heading above them; empty for no heading.
    """

    height: int
    panels: Sequence[model.Panel | Sequence[model.Panel]]
    widths: Sequence[int] = ()
    title: str = ""


@dataclass(frozen=True)
class Dashboard:
    """A dashboard, as its file declares it.

    Args:
        uid: from `panel_ids`.
        title: as people see and search it.
        description: which question it answers.
        bands: the panels, from the top.
        variables: selections above the panels.
        links: to other dashboards, beside the menu of all.
        since: where the time range begins.
        refresh: how often the browser repeats the queries.
        timezone: ``browser`` or ``utc``.
        events: mark container starts and kills in the graphs, not only alerts.
    """

    uid: str
    title: str
    description: str
    bands: Sequence[Band]
    variables: Sequence[model.VariableModel] = ()
    links: Sequence[model.DashboardLink] = ()
    since: str = "now-1h"
    refresh: str = "30s"
    timezone: str = "browser"
    events: bool = True


def grafana_model(dashboard: Dashboard) -> model.Dashboard:
    """Return Grafana's JSON model of ``dashboard``."""
    built = (
        builders.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description(dashboard.description)
        .tags([TAG])
        .time(dashboard.since, "now")
        .refresh(dashboard.refresh)
        .timezone(dashboard.timezone)
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .build()
    )
    built.schema_version = SCHEMA_VERSION
    built.panels = _placed(dashboard.bands)
    for variable in dashboard.variables:
        # The SDK sets the id that Grafana gives a variable before it is named; Grafana 9.4 finds
        # variables by id.
        variable.id_val = variable.name
    built.templating = model.DashboardDashboardTemplating(list(dashboard.variables))
    selects = any(variable.name == "handle" for variable in dashboard.variables)
    built.annotations = model.AnnotationContainer(
        shown_annotations(selects, events=dashboard.events)
    )
    built.links = [*dashboard.links, _all_dashboards()]
    return built


def _placed(bands: Sequence[Band]) -> list[model.Panel | model.RowPanel]:
    placed: list[model.Panel | model.RowPanel] = []
    top = 0
    for number, band in enumerate(bands):
        if band.title:
            row = model.RowPanel(
                title=band.title,
                id_val=_ROW_IDS + number,
                grid_pos=model.GridPos(h=1, w=COLUMNS, x=0, y=top),
            )
            placed.append(row)
            top += 1
        left = 0
        widths = band.widths or [COLUMNS // len(band.panels)] * len(band.panels)
        for width, column in zip(widths, band.panels, strict=True):
            stack = [column] if isinstance(column, model.Panel) else column
            height = band.height // len(stack)
            for place, panel in enumerate(stack):
                panel.grid_pos = model.GridPos(h=height, w=width, x=left, y=top + place * height)
                placed.append(panel)
            left += width
        top += band.height
    return placed


# --- variables ----------------------------------------------------------------------------------


def handle() -> model.VariableModel:
    """Select from the containers that the platform reported in the time range."""
    return _from_prometheus(
        "handle", "Container", catalog.PLATFORM_CONTAINER_UP.prometheus, "handle"
    )


def user_id() -> model.VariableModel:
    """Select from the proxy's users."""
    metric = catalog.PROXY_USER_COST_TODAY.prometheus
    return _from_prometheus("user_id", "User", metric, "user_id")


def service() -> model.VariableModel:
    """Select from the services: scrape targets, and senders of HTTP request metrics."""
    requests = catalog.HTTP_SERVER_REQUEST_DURATION.prometheus
    selector = f'{{__name__=~"up|{requests}_count"}}'
    return _from_prometheus("service", "Service", selector, "job", every=".+")


def log_service() -> model.VariableModel:
    """Select from the services that logged."""
    return _from_loki("service", "Service", "service_name", every=".+")


def log_handle() -> model.VariableModel:
    """Select from the containers that logged."""
    return _from_loki("handle", "Container", "handle", every=".*")


def choice(name: str, label: str, values: Sequence[str]) -> model.VariableModel:
    """Select one or several from a fixed list."""
    variable = builders.CustomVariable(name).label(label).values(", ".join(values)).build()
    _selects_all(variable, ".*")
    variable.options = [
        model.VariableOption(selected=True, text="All", value="$__all"),
        *(model.VariableOption(selected=False, text=value, value=value) for value in values),
    ]
    return variable


def text(name: str, label: str) -> model.VariableModel:
    """Type a text."""
    empty = model.VariableOption(selected=True, text="", value="")
    return (
        builders.TextBoxVariable(name)
        .label(label)
        .default_value("")
        .current(empty)
        .options([empty])
        .build()
    )


def _from_prometheus(
    name: str, label: str, selector: str, values_of: str, every: str = ".*"
) -> model.VariableModel:
    query = f"label_values({selector}, {values_of})"
    return _query(name, label, {"query": query, "refId": name}, PROMETHEUS_REF, every)


def _from_loki(name: str, label: str, values_of: str, every: str) -> model.VariableModel:
    # Type 1 queries a label's values, type 0 the labels' names.
    query: dict[str, object] = {"label": values_of, "refId": name, "stream": "", "type": 1}
    return _query(name, label, query, LOKI_REF, every)


def _query(
    name: str, label: str, query: dict[str, object], source: model.DataSourceRef, every: str
) -> model.VariableModel:
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(source)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        .build()
    )
    _selects_all(variable, every)
    return variable


def _selects_all(variable: model.VariableModel, every: str) -> None:
    # "All" is one pattern, not a list of a thousand values, and matches series without the label.
    variable.multi = True
    variable.include_all = True
    variable.all_value = every
    variable.current = model.VariableOption(selected=True, text=["All"], value=["$__all"])


# --- links --------------------------------------------------------------------------------------


def _all_dashboards() -> model.DashboardLink:
    return model.DashboardLink(
        title="Dashboards",
        type_val=model.DashboardLinkType.DASHBOARDS,
        icon="external link",
        tags=[TAG],
        as_dropdown=True,
        include_vars=True,
        keep_time=True,
    )


def link(title: str, uid: str, tooltip: str) -> model.DashboardLink:
    """Link to another dashboard that keeps the selection and time range."""
    return model.DashboardLink(
        title=title,
        type_val=model.DashboardLinkType.LINK,
        icon="dashboard",
        tooltip=tooltip,
        url=f"/d/{uid}",
        include_vars=True,
        keep_time=uid not in BY_DAYS,
    )


def address(uid: str, **variables: str) -> str:
    """Return a dashboard's address with these variables set, in the same time range."""
    chosen = "".join(f"var-{name}={value}&" for name, value in variables.items())
    return f"/d/{uid}?{chosen}{TIME}"
