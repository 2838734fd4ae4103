"""Convert OpenTelemetry names and units to Prometheus names.

The result must be the same over OTLP (Prometheus' ``UnderscoreEscapingWithSuffixes``) and in the
Python Prometheus exporter, so that dashboards work with both.

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
    """Convert a UCUM unit to a suffix, ``""`` for annotations such as ``{request}``."""
    bare = _ANNOTATION.sub("", unit)
    return _UNITS.get(bare, _NOT_NAME.sub("_", bare).strip("_"))


def prometheus_name(name: str, kind: Kind, unit: str) -> str:
    """Convert a metric name, e.g. ``gateway.ai.cost``, counter, ``usd`` ->
    ``gateway_ai_cost_usd_total``. For a histogram, the result is the prefix of its ``_bucket``,
    ``_sum`` and ``_count`` series.
    """
    # A run of invalid characters becomes one underscore; so does a run of underscores.
    base = _RUNS.sub("_", _NOT_NAME.sub("_", name))
    if base[:1].isdigit():
        base = "_" + base
    # Suffixes are compared with the name's words, so that none is appended twice.
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
    """Convert an attribute key to a Prometheus label, e.g. ``http.route`` -> ``http_route``."""
    label = _NOT_LABEL.sub("_", attribute)
    return "_" + label if label[:1].isdigit() else label
