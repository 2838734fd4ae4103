"""The committed JSON matches the code, is complete, and is readable for Grafana 9.4 and later."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from telemetry.dashboards import PANELS, render
from telemetry.dashboards.__main__ import main
from telemetry.dashboards.inventory import dashboards
from telemetry.dashboards.panel_ids import LOKI, PROMETHEUS
from telemetry.system.units import parse_duration

COMMITTED = Path(__file__).parents[2] / "grafana" / "dashboards"
MODELS = {model["uid"]: model for model in dashboards()}
# Of the panels that come with Grafana 9.4: https://grafana.com/docs/grafana/v9.4/panels-visualizations/visualizations/
GRAPHS = {"heatmap", "piechart", "state-timeline", "timeseries"}
TYPES = GRAPHS | {"alertlist", "bargauge", "logs", "stat", "table"}
# Units by their ids: https://grafana.com/docs/grafana/latest/panels-visualizations/configure-standard-options/
RATES = {"Bps", "opm", "ops", "reqps"}
UNITS = RATES | {"bytes", "currencyUSD", "percent", "percentunit", "s", "short"}


def _panels(model: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in model["panels"] if panel["type"] != "row"]


ALL_PANELS = [
    pytest.param(model, panel, id=f"{model['uid']}-{panel['id']}")
    for model in MODELS.values()
    for panel in _panels(model)
]


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from _objects(child)
    elif isinstance(value, list):
        for child in value:
            yield from _objects(child)


def test_committed_files_match_the_code(tmp_path: Path) -> None:
    written = render(tmp_path)
    committed = sorted(COMMITTED.glob("*.json"))
    assert [file.name for file in written] == [file.name for file in committed]
    for file, kept in zip(written, committed, strict=True):
        assert file.read_text() == kept.read_text(), "run `nox -s render` and commit"


def test_unwritable_folder_is_reported_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    assert main([str(taken)]) != 0
    assert f"error: {taken}: the dashboards can't be written there" in capsys.readouterr().err


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_sdk_reads_dashboard_back_unchanged(model: dict[str, Any]) -> None:
    """The SDK's models of Grafana's schema lack the texts of annotations and the alert list."""
    known = json.loads(json.dumps(model))
    known["annotations"]["list"] = known["annotations"]["list"][:1]
    read = json.loads(json.dumps(Dashboard.from_json(known), cls=JSONEncoder))
    assert read == known


def test_every_panel_has_its_id_from_panel_ids() -> None:
    drawn = {(uid, panel["id"]) for uid, model in MODELS.items() for panel in _panels(model)}
    assert drawn == set(PANELS.values())
    for model in MODELS.values():
        ids = [panel["id"] for panel in model["panels"]]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_panels_fill_the_grid_without_overlapping(model: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in model["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for a, b in itertools.combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (a, b)
    assert sum(p["w"] * p["h"] for p in places) == 24 * max(p["y"] + p["h"] for p in places)


@pytest.mark.parametrize(("model", "panel"), ALL_PANELS)
def test_panel_has_title_description_unit_and_queries(
    model: dict[str, Any], panel: dict[str, Any]
) -> None:
    assert panel["type"] in TYPES
    assert panel["title"]
    assert re.search(r"[.]$", panel["description"])
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in UNITS
    assert defaults["thresholds"]["steps"][0]["value"] is None
    if panel["type"] == "alertlist":
        return
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
    uids = {"prometheus": PROMETHEUS, "loki": LOKI}
    assert panel["datasource"]["uid"] == uids[panel["datasource"]["type"]]
    refs = [target["refId"] for target in panel["targets"]]
    assert len(refs) == len(set(refs))


@pytest.mark.parametrize(("model", "panel"), ALL_PANELS)
def test_title_fits_at_1280_pixels(model: dict[str, Any], panel: dict[str, Any]) -> None:
    """Seen in Grafana 9.4: "Telemetry lost" fits into three columns, "Containers down" doesn't."""
    assert len(panel["title"]) <= 14 * panel["gridPos"]["w"] // 3


@pytest.mark.parametrize(("model", "panel"), ALL_PANELS)
def test_axis_of_rates_and_shares_has_an_end_for_zeros(
    model: dict[str, Any], panel: dict[str, Any]
) -> None:
    """Grafana ends an axis of zeros at 100 otherwise, which of shares is 10000 %."""
    defaults = panel["fieldConfig"]["defaults"]
    rates = defaults["unit"] in ("percentunit", "reqps", "ops", "opm")
    if panel["type"] == "timeseries" and rates:
        # In Grafana 9.4 a soft end overrides a hard one.
        assert ("max" in defaults) != ("axisSoftMax" in defaults["custom"])


@pytest.mark.parametrize(("model", "panel"), ALL_PANELS)
def test_text_for_no_data_does_not_appear_at_an_axis(
    model: dict[str, Any], panel: dict[str, Any]
) -> None:
    """Grafana 9.4 writes it beside the ticks that whole numbers leave out."""
    defaults = panel["fieldConfig"]["defaults"]
    if panel["type"] == "timeseries":
        assert not ("noValue" in defaults and "decimals" in defaults)


@pytest.mark.parametrize(("model", "panel"), ALL_PANELS)
def test_no_event_falls_between_two_points(model: dict[str, Any], panel: dict[str, Any]) -> None:
    """In the dashboard's own time range, on a screen of 1280 pixels with a point for each."""
    if panel["type"] != "timeseries":
        return
    points = panel.get("maxDataPoints") or 1190 * panel["gridPos"]["w"] // 24
    range_s = parse_duration(model["time"]["from"].removeprefix("now-"))
    for target in panel["targets"]:
        # Rankings and last values over a longer time are not counts at a point.
        if "[$__interval]" in target["expr"]:
            continue  # also counts events since the previous point
        windows = re.findall(r"_total(?:\{[^}]*\})?\[(\d+[smhd])\]", target["expr"])
        for window in windows:
            assert range_s / points <= parse_duration(window), target["expr"]


@pytest.mark.parametrize(("model", "panel"), ALL_PANELS)
def test_stat_without_data_shows_zero_or_a_text(
    model: dict[str, Any], panel: dict[str, Any]
) -> None:
    if panel["type"] != "stat":
        return
    said = panel["fieldConfig"]["defaults"].get("noValue")
    for target in panel["targets"]:
        assert said or re.search(r"or vector\((0|-1)\)\)?$", target["expr"]), target["expr"]


def test_links_lead_to_existing_dashboards_and_variables() -> None:
    followed = 0
    for model in MODELS.values():
        for found in _objects(model):
            url = found.get("url") or ""
            match = re.match(r"/d/([\w-]+)(?:\?(.*))?$", url)
            if not match:
                assert not url, url
                continue
            followed += 1
            there = {v["name"] for v in MODELS[match[1]]["templating"]["list"]}
            for name in re.findall(r"var-(\w+)=", match[2] or ""):
                assert name in there, url
            kept = found.get("keepTime") or "${__url_time_range}" in url
            # Cost & usage counts by days and opens with its own range of seven.
            by_days = match[1] == "telemetry-cost" != model["uid"]
            assert bool(kept) != by_days, f"{url}: which time range?"
    assert followed >= 20


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_all_is_one_pattern_for_any_number_of_values(model: dict[str, Any]) -> None:
    for variable in model["templating"]["list"]:
        # Grafana 9.4 finds a variable by its id.
        assert variable["id"] == variable["name"]
        if variable["type"] == "textbox":
            continue
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["allValue"] in (".*", ".+")
        assert variable["current"]["value"] == ["$__all"]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_no_field_is_newer_than_grafana_9_4(model: dict[str, Any]) -> None:
    """Newer fields would be lost or fail there; later versions migrate the old ones."""
    assert model["schemaVersion"] == 37
    text = json.dumps(model)
    for newer in ("cellOptions", "fieldMinMax", "$__auto", "oneClick", "transformations.filter"):
        assert newer not in text, newer


def test_overview_shows_trouble_without_scrolling() -> None:
    """At 1280×800 a column is 52 px wide, and about 17 rows of 38 px are visible."""
    model = MODELS["telemetry-overview"]
    assert (model["time"]["from"], model["refresh"]) == ("now-1h", "30s")
    names = {number: name for name, (uid, number) in PANELS.items() if uid == model["uid"]}
    first = [panel for panel in _panels(model) if panel["gridPos"]["y"] == 0]
    shown = [names[panel["id"]].removeprefix("overview.") for panel in first]
    down = ["services_down", "containers_down"]
    assert shown == ["critical", "warnings", *down, "errors", "loss"]
    alerts = next(panel for panel in _panels(model) if names[panel["id"]] == "overview.alerts")
    assert alerts["gridPos"]["y"] + alerts["gridPos"]["h"] <= 17


def test_annotations_are_readable_before_and_after_grafana_10() -> None:
    marks = [m for model in MODELS.values() for m in model["annotations"]["list"][1:]]
    names = {"Firing alerts", "Container starts", "Container kills", "OOM kills"}
    assert {m["name"] for m in marks} == names
    for mark in marks:
        assert mark["expr"] == mark["target"]["expr"]
        assert mark["step"] == mark["target"]["interval"]
        assert mark["datasource"]["uid"] == PROMETHEUS
        assert mark["titleFormat"]
