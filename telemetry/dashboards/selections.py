"""The dashboards' selections, as matchers, and the limit to the number of series in a graph.

``$handle``, ``$service`` and ``$user_id`` are the dashboards' variables, whose "all" also matches
series without the label.
"""

from __future__ import annotations

from telemetry.promql.functions import RANGE, where

HANDLE = 'handle=~"$handle"'
USER = 'user_id=~"$user_id"'
SERVICE = 'job=~"$service", handle=~"$handle"'
LINES = 20  # more series in one graph are unreadable; chosen by judgement, not measured


def peak(metric: str, by: str, matchers: str) -> str:
    """Return the highest value of the time range, by which `top` ranks series."""
    return f"max by ({by}) (max_over_time({metric}{where(matchers)}[{RANGE}] @ end()))"
