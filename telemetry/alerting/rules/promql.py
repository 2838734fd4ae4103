"""Pieces of PromQL that several rules need."""

from __future__ import annotations

from telemetry.promql.functions import latest


def risen(metric: str, window: str, by: str = "handle") -> str:
    """How far a counter that outlives its reporter rose within ``window``: a whole number.

    The platform and the proxy's ledger keep their counts, so one that restarts goes on where it
    was, perhaps as a new series; `increase()` would miss what happened between the two, and
    extrapolates: 17 of a series of two samples read as 21. Present value less the least within
    the window: a first value counts from the 0 that the library exports before it, a count that
    is found high is no event, a reset counts what came after it.
    """
    return f"{latest(metric, by)}\n- min by ({by}) (min_over_time({metric}[{window}]))"


def indent(text: str, by: int = 2) -> str:
    """``text`` with every line moved right."""
    return "\n".join(" " * by + line for line in text.splitlines())
