"""Grafana's data sources and dashboard provider, as dashboards, alert rules and links need them.

The format: https://grafana.com/docs/grafana/latest/administration/provisioning/ and
https://grafana.com/docs/grafana/latest/datasources/loki/configure-loki-data-source/
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from telemetry.alerting.render.grafana import DATASOURCES, FOLDER
from telemetry.dashboards.panel_ids import LOKI, PROMETHEUS
from telemetry.settings.stack import StackSettings
from telemetry.stack import processes as stack_processes
from telemetry.stack.state_folder import StateFolder
from telemetry.system import packaged_files


def _read(part: str) -> dict[str, Any]:
    text = packaged_files.path(f"grafana/provisioning/{part}/telemetry.yaml").read_text()
    document: dict[str, Any] = yaml.safe_load(text)
    assert document.pop("apiVersion") == 1
    return document


def _sources() -> dict[str, dict[str, Any]]:
    return {source["type"]: source for source in _read("datasources")["datasources"]}


def _environment() -> dict[str, str]:
    environ = {"TELEMETRY_GRAFANA_PASSWORD": "x", "TELEMETRY_WEBHOOK_TOKEN": "y"}
    programs = {n: Path(n) for n in ("prometheus", "loki", "collector", "grafana")}
    processes = stack_processes.engines(
        StateFolder(Path("/x")), StackSettings.from_env(environ), programs, "grafana"
    )
    return dict(next(p.env for p in processes if p.name == "grafana"))


def test_dashboards_and_rules_use_these_data_sources() -> None:
    uids = {kind: source["uid"] for kind, source in _sources().items()}
    assert uids == {"prometheus": PROMETHEUS, "loki": LOKI} == DATASOURCES


def test_data_source_addresses_come_from_environment() -> None:
    environment = _environment()
    for kind, source in _sources().items():
        assert source["url"] == f"$TELEMETRY_{kind.upper()}_URL"
        assert environment[source["url"][1:]].startswith("https://127.0.0.1:")
        assert source["access"] == "proxy", "browsers can't reach the stores"


def test_interval_of_data_source_is_scrape_interval() -> None:
    """$__rate_interval is four intervals: shorter has too few samples, longer smooths too much."""
    prometheus = yaml.safe_load(
        packaged_files.path("compose/prometheus/prometheus.yaml").read_text()
    )
    interval = _sources()["prometheus"]["jsonData"]["timeInterval"]
    assert interval == prometheus["global"]["scrape_interval"]


def test_both_data_sources_list_rules_of_their_store() -> None:
    assert all(source["jsonData"]["manageAlerts"] for source in _sources().values())


def test_derived_fields_link_to_dashboards_with_their_variable() -> None:
    """The fields are Loki's labels; `$$` escapes the `$` of Grafana's variables."""
    labels = {"trace_id", "handle"}
    for field in _sources()["loki"]["jsonData"]["derivedFields"]:
        assert field["matcherType"] == "label"
        labels.remove(field["matcherRegex"])
        found = re.fullmatch(r"/d/([\w-]+)\?var-(\w+)=\$\$\{__value\.raw\}", field["url"])
        assert found is not None, field["url"]
        dashboard = json.loads(
            packaged_files.path(f"grafana/dashboards/{found[1]}.json").read_text()
        )
        variables = {variable["name"] for variable in dashboard["templating"]["list"]}
        assert found[2] in variables
    assert not labels


def test_dashboard_folder_comes_from_environment() -> None:
    (provider,) = _read("dashboards")["providers"]
    environment = _environment()
    folder = Path(environment[provider["options"]["path"][1:]])
    assert len(list(folder.glob("*.json"))) == 6
    assert provider["folder"] == FOLDER, "the alert rules' folder"
    assert provider["type"] == "file"
    assert not provider["allowUiUpdates"]
    assert Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()


def test_anonymous_access_is_off() -> None:
    environment = _environment()
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert environment["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
