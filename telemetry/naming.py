"""From an OpenTelemetry name and unit to the Prometheus name, the same on both routes.

The OTLP route (Prometheus' ``UnderscoreEscapingWithSuffixes``) and the Python Prometheus
exporter must give the same text, so that a dashboard works whichever way a number came.

Source: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["counter", "gauge", "updowncounter", "histogram"]

_UNITS = {
    "s": "seconds",
    "ms": "milliseconds",
    "By": "bytes",
    "%": "percent",
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "Cel": "celsius",
    "Hz": "hertz",
}
_ANNOTATION = re.compile(r"\{[^}]*\}")
_NOT_NAME = re.compile(r"[^a-zA-Z0-9_:]+")
_NOT_LABEL = re.compile(r"[^a-zA-Z0-9_]+")
_RUNS = re.compile(r"_{2,}")


def unit_suffix(unit: str) -> str:
    """The suffix a UCUM unit gives, ``""`` for annotations such as ``{request}``."""
    bare = _ANNOTATION.sub("", unit)
    return _UNITS.get(bare, _NOT_NAME.sub("_", bare).strip("_"))


def prometheus_name(name: str, kind: Kind, unit: str) -> str:
    """The Prometheus metric name, e.g. ``gateway.ai.cost``, counter, ``usd`` ->
    ``gateway_ai_cost_usd_total``. For a histogram, the name its ``_bucket``, ``_sum`` and
    ``_count`` series start with.
    """
    # A run of characters that aren't allowed becomes one underscore; so does a run of underscores.
    base = _RUNS.sub("_", _NOT_NAME.sub("_", name))
    if base[:1].isdigit():
        base = "_" + base
    # The suffixes are appended as tokens: a name that has one already doesn't get it twice.
    tokens = base.split("_")
    suffix = unit_suffix(unit)
    if kind == "counter":
        tokens = [token for token in tokens if token != "total"]
    if suffix and suffix not in tokens:
        tokens.append(suffix)
    if kind == "counter":
        tokens.append("total")
    return "_".join(tokens)


def label_name(attribute: str) -> str:
    """The Prometheus label for an attribute key, e.g. ``http.route`` -> ``http_route``."""
    label = _NOT_LABEL.sub("_", attribute)
    return "_" + label if label[:1].isdigit() else label
