"""A live Grafana loads the dashboards and runs their queries on the stores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry.dashboards import PANELS
from telemetry.dashboards.inventory import dashboards, substitute
from telemetry.settings import credentials
from tests.dashboards import test_engines as sent
from tests.dashboards.filler import counting
from tests.fixtures.stack import Stack, until
from tests.ports import free_ports

pytestmark = [pytest.mark.stack, pytest.mark.grafana]

MODELS = {model["uid"]: model for model in dashboards()}
# Grafana itself fills these in.
TIMES = {name: f"${name}" for name in ("__interval", "__range", "__rate_interval")}
# Prometheus evaluates no rules here.
QUIET = {*sent.QUIET, "pipeline.rules"}


@pytest.fixture(scope="module")
def grafana(
    tmp_path_factory: pytest.TempPathFactory, grafana_program: Path
) -> Iterator[httpx.Client]:
    """A client of a provisioned Grafana, with data of four processes in the stores."""
    stack = Stack(tmp_path_factory.mktemp("grafana") / "home", free_ports())
    try:
        stack.run("up", "--no-services", TELEMETRY_GRAFANA="on")
        password = credentials.ensure(stack.home, {})["TELEMETRY_GRAFANA_PASSWORD"]
        with ExitStack() as running:
            for service, counts, handle in sent.PROCESSES:
                running.enter_context(counting(stack, service, counts, handle))
            for twice in sent.TWICE:
                stack.wait_query(f"rate({twice}[120s])", timeout_s=60)
            client = httpx.Client(
                base_url=stack.url("grafana"), auth=("admin", password), timeout=60
            )
            yield running.enter_context(client)
    finally:
        stack.run("down", check=False)


def test_all_dashboards_are_provisioned_unchanged(grafana: httpx.Client) -> None:
    found = until(lambda: grafana.get("/api/search?type=dash-db&tag=telemetry").json(), 30)
    assert {each["uid"] for each in found} == set(MODELS)
    for uid, model in MODELS.items():
        answer = grafana.get(f"/api/dashboards/uid/{uid}").json()
        assert answer["meta"]["provisioned"]
        assert len(answer["dashboard"]["panels"]) == len(model["panels"])
        assert answer["dashboard"]["title"] == model["title"]


@pytest.mark.parametrize("uid", MODELS)
def test_every_panel_has_data_in_grafana(grafana: httpx.Client, uid: str) -> None:
    names = {place: name for name, place in PANELS.items()}
    variables = MODELS[uid]["templating"]["list"]
    chosen = {v["name"]: v.get("allValue", "") for v in variables} | TIMES
    for panel in MODELS[uid]["panels"]:
        targets = panel.get("targets", ())
        if not targets or names[uid, panel["id"]] in QUIET:
            continue
        points, name = panel.get("maxDataPoints", 600), names[uid, panel["id"]]
        # A rate needs two values before one of Grafana's steps, and the stack has just started.
        until(partial(_answered, grafana, targets, chosen, points, name), 60, what=name)


def _answered(
    grafana: httpx.Client, targets: Any, chosen: dict[str, str], points: int, name: str
) -> bool:
    answers = _ask(grafana, targets, chosen, points)
    for ref, answer in answers.items():
        assert not answer.get("error"), (name, ref, answer["error"])
    return any(map(_has_data, answers.values()))


def _ask(
    grafana: httpx.Client, targets: Any, chosen: dict[str, str], points: int
) -> dict[str, dict[str, Any]]:
    """Query Grafana as a panel in a browser does, for the last 15 minutes."""
    now_ms = int(time.time() * 1000)
    queries = [
        {
            **target,
            "expr": substitute(target["expr"], chosen),
            "intervalMs": 5000,
            "maxDataPoints": points,
            "utcOffsetSec": 0,
        }
        for target in targets
    ]
    # To the next minute, the longest step here: Grafana ends at whole steps.
    span = {"from": str(now_ms - 900_000), "to": str(now_ms + 60_000)}
    answer = grafana.post("/api/ds/query", json={"queries": queries, **span})
    results: dict[str, dict[str, Any]] = answer.json()["results"]
    return results


def _has_data(answer: dict[str, Any]) -> bool:
    return any(
        any(column for column in frame["data"]["values"]) for frame in answer.get("frames", ())
    )
