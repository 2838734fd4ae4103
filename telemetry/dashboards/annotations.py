"""Annotations in the graphs: container starts, kills, firing alerts."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from telemetry import catalog as c
from telemetry.dashboards.selections import HANDLE
from telemetry.dashboards.targets import PROMETHEUS_REF
from telemetry.promql.functions import STEP, where

_UP = c.PLATFORM_CONTAINER_UP.prometheus
_STATES = c.PLATFORM_CONTAINERS_TOTAL.prometheus
_RESTARTS = c.PLATFORM_CONTAINER_RESTARTS.prometheus
_OOM_KILLS = c.PLATFORM_CONTAINER_OOM_KILLS.prometheus

_LEAST_STEP = "15s"  # the platform's sampling interval: a shorter step shows no more


class _Annotation(model.AnnotationQuery):
    """Annotations from PromQL, in a form that Grafana reads before and after version 10.

    The SDK's class has no fields for the texts and the step. Grafana reads the query from
    ``expr`` and ``step`` before version 10, and from ``target`` since.
    """

    def __init__(self, name: str, colour: str, expr: str, title: str, text: str) -> None:
        # This hides the switch, not the marks: five switches would fill a line of the screen.
        super().__init__(
            name=name, datasource=PROMETHEUS_REF, icon_color=colour, expr=expr, hide=True
        )
        self._title, self._text = title, text

    def to_json(self) -> dict[str, object]:
        """Return the annotation as in Grafana's JSON model."""
        return super().to_json() | {
            "step": _LEAST_STEP,
            "tagKeys": "handle,severity",
            "target": {
                "datasource": PROMETHEUS_REF,
                "expr": self.expr,
                "interval": _LEAST_STEP,
                "range": True,
                "refId": "Anno",
            },
            "textFormat": self._text,
            "titleFormat": self._title,
            "useValueForTime": False,
        }


def shown_annotations(selects: bool, *, events: bool) -> list[model.AnnotationQuery]:
    """Return the annotations of a dashboard.

    Args:
        selects: the dashboard has the variable ``handle``: show the selected containers only.
        events: mark container starts and kills too, not only alerts.
    """
    matchers = HANDLE if selects else ""
    container = "{{handle}}"
    about = "{{severity}} {{handle}} {{job}} {{user_id}}"
    shown = [
        _built_in(),
        _Annotation("Firing alerts", "red", _FIRING, "{{alertname}}", about),
    ]
    if events:
        shown += [
            _Annotation("Container starts", "green", _starts(matchers), "Started", container),
            _Annotation("Container kills", "orange", _kills(matchers), "Stopped", container),
            _Annotation("OOM kills", "dark-red", _oom_kills(matchers), "OOM kill", container),
        ]
    return shown


def _built_in() -> model.AnnotationQuery:
    # Grafana's own store: state changes of the alert rules it evaluates, and people's notes.
    return model.AnnotationQuery(
        name="Alerts & notes",
        datasource=model.DataSourceRef(type_val="grafana", uid="-- Grafana --"),
        icon_color="rgba(0, 211, 255, 1)",
        hide=True,
        type_val="dashboard",
        target=model.AnnotationTarget(limit=100, match_any=False, tags=[], type_val="dashboard"),
    )


# Grafana draws a mark at each step at which a query's value is above 0. The maximum over reporters
# suffices here; panels show the newest reporter's value, which costs more with many containers.


def _starts(matchers: str) -> str:
    """Return 1 at each step in which a container started, by handle."""
    up = f"max by (handle) ({_UP}{where(matchers)}"
    return (
        f"{up}) == 1 unless on (handle) {up} offset {STEP}) == 1 "
        # Only if the platform reported before: when it starts, its containers do not.
        f"and on () count({_STATES} offset {STEP}) "
        f"or {_stepped(_RESTARTS, matchers)}"
    )


def _kills(matchers: str) -> str:
    """Return 1 at each step in which a container that should run stopped, by handle."""
    selector = _UP + where(matchers)
    return (
        f"(max by (handle) ({selector}) == bool 0) > 0 and on (handle) "
        # Also a container that had started within the same step.
        f"(max by (handle) (max_over_time({selector}[{STEP}])) == 1 "
        f"or max by (handle) ({selector} offset {STEP}) == 1)"
    )


def _oom_kills(matchers: str) -> str:
    """Count the processes killed within a step because memory ran out, by handle."""
    return _stepped(_OOM_KILLS, matchers)


def _stepped(metric: str, matchers: str) -> str:
    selector = metric + where(matchers)
    return f"max by (handle) ({selector}) - min by (handle) (min_over_time({selector}[{STEP}])) > 0"


_ALERTS = 'max by (alertname, severity, handle, job, user_id) (ALERTS{alertstate="firing"}'
_NOTIFIED = f"max by (severity) ({c.GATEWAY_ALERTS_FIRING.prometheus}"
# Above 0 at each step in which an alert began to fire.
_FIRING = (
    # Only where an alert begins: a mark as long as its alert would colour all of a bad day.
    f"{_ALERTS}) unless {_ALERTS} offset {STEP}) or "
    # If Grafana evaluates, there are no ALERTS: use what the gateway was notified of.
    f'(label_replace({_NOTIFIED}) > {_NOTIFIED} offset {STEP}), "alertname", "Alerts firing", '
    f'"", "") unless on () count(ALERTS{{alertstate="firing"}}))'
)
