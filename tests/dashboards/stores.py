"""Run dashboards' queries on real stores, as Grafana does."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from telemetry.dashboards import Query
from telemetry.system.tls import client_context
from tests.fixtures.stack import Stack

DAY_S = 86_400


@dataclass(frozen=True)
class Series:
    """One series of an answer, or one stream of lines.

    Args:
        labels: of the series or stream.
        values: (time in s, number), by time; of a stream (time in s, 1).
        lines: of a stream.
    """

    labels: dict[str, str]
    values: list[tuple[float, float]]
    lines: list[str] = field(default_factory=list)

    @property
    def last(self) -> float:
        """The newest value."""
        return self.values[-1][1]


def run_query(stack: Stack, query: Query, *, now: float | None = None) -> list[Series]:
    """Run ``query`` for the time range that ends ``now``.

    Raises:
        AssertionError: the store refused it.
    """
    end = now or time.time()
    form: dict[str, Any] = {"query": query.expr}
    if query.instant:
        form |= {"time": end}
    else:
        # Grafana begins and ends at whole steps. Here only days do; otherwise the last step is
        # now, so that tests don't wait for it.
        step = query.step_s
        last = end // step * step if step >= DAY_S else end
        form |= {"start": last - query.range_s // step * step, "end": last, "step": f"{step}s"}
    kind = "query" if query.instant else "query_range"
    if query.datasource == "prometheus":
        return _series(_post(stack, f"{stack.prometheus_url}/api/v1/{kind}", form, query))
    if not query.instant:
        form |= {"start": int(form["start"] * 1e9), "end": int(end * 1e9), "limit": 1000}
    else:
        form |= {"time": int(end * 1e9)}
    return _series(_post(stack, f"{stack.loki_url}/loki/api/v1/{kind}", form, query))


def last_values(found: list[Series], *labels: str) -> dict[Any, float]:
    """Return the newest values by the value of one label, or by a tuple of several."""
    if len(labels) == 1:
        return {series.labels.get(labels[0], ""): series.last for series in found}
    return {tuple(s.labels.get(label, "") for label in labels): s.last for s in found}


def _post(stack: Stack, url: str, form: dict[str, Any], query: Query) -> dict[str, Any]:
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())
    context = client_context(stack.tls)
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        why = error.read().decode(errors="replace")
        raise AssertionError(f"{query.dashboard}, {query.panel}: {why}\n{query.expr}") from error
    assert answer["status"] == "success", answer
    data: dict[str, Any] = answer["data"]
    return data


def _series(data: dict[str, Any]) -> list[Series]:
    if data["resultType"] == "streams":
        return [
            Series(
                stream["stream"],
                [(int(at) / 1e9, 1.0) for at, *_ in stream["values"]],
                [line for _, line, *_ in stream["values"]],
            )
            for stream in data["result"]
        ]
    return [
        Series(
            found["metric"],
            [
                (float(at), float(number))
                for at, number in found.get("values", [found.get("value")])
            ],
        )
        for found in data["result"]
    ]
