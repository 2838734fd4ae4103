"""Annotations in the graphs: container starts, kills, firing alerts."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as model

from telemetry.dashboards import queries
from telemetry.dashboards.targets import PROMETHEUS_REF

_STEP = "15s"  # the platform's sampling interval: a shorter step shows no more


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
            "step": _STEP,
            "tagKeys": "handle,severity",
            "target": {
                "datasource": PROMETHEUS_REF,
                "expr": self.expr,
                "interval": _STEP,
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
    matchers = queries.HANDLE if selects else ""
    container = "{{handle}}"
    about = "{{severity}} {{handle}} {{job}} {{user_id}}"
    shown = [
        _built_in(),
        _Annotation("Firing alerts", "red", queries.FIRING, "{{alertname}}", about),
    ]
    if events:
        shown += [
            _Annotation(
                "Container starts", "green", queries.starts(matchers), "Started", container
            ),
            _Annotation("Container kills", "orange", queries.kills(matchers), "Stopped", container),
            _Annotation(
                "OOM kills", "dark-red", queries.oom_kills(matchers), "OOM kill", container
            ),
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
