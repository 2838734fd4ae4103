"""`/metrics` has every metric of the gateway, with the names, labels and buckets that are
promised. The table is written out here on purpose: dashboards and alerts of users read it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.gateway.conftest import MODEL, Gateway
from tests.gateway.test_alerts import ALERTMANAGER, notify

TABLE: dict[str, tuple[str, set[str]]] = {
    "gateway_http_requests_total": ("counter", {"method", "path", "status"}),
    "gateway_http_request_duration_seconds": ("histogram", {"method", "path"}),
    "gateway_kernel_dispatch_total": ("counter", {"source", "status"}),
    "gateway_kernel_dispatch_duration_seconds": ("histogram", {"source"}),
    "gateway_dispatch_queue_depth": ("gauge", set()),
    "gateway_ws_connections_active": ("gauge", set()),
    "gateway_ai_cost_usd_total": ("counter", {"model"}),
    "gateway_ai_tokens_total": ("counter", {"model", "direction"}),
    "gateway_interaction_log_failures_total": ("counter", {"reason"}),
    "gateway_notifications_total": ("counter", {"status", "severity"}),
    "gateway_alerts_firing": ("gauge", {"severity"}),
}
BUCKETS = {
    "gateway_http_request_duration_seconds": [0.01, 0.05, 0.1, 0.5, 1, 5, 10],
    "gateway_kernel_dispatch_duration_seconds": [0.5, 1, 5, 10, 30, 60, 120],
}
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parse(page: str) -> tuple[dict[str, str], list[tuple[str, dict[str, str], float]]]:
    """Kinds by name, and samples."""
    kinds, samples = {}, []
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            kinds[name] = kind
        elif match := SAMPLE.match(line):
            samples.append((match[1], dict(LABEL.findall(match[2] or "")), float(match[3])))
    return kinds, samples


def test_a_new_gateway_declares_every_metric_of_the_table(gateway: Gateway) -> None:
    kinds, _ = parse(gateway.metrics())
    assert {name: kind for name, kind in kinds.items() if name.startswith("gateway_")} == {
        name: kind for name, (kind, _) in TABLE.items()
    }


def test_every_metric_of_the_table(gateway: Gateway) -> None:
    gateway.ask("Hello")
    notify(gateway, ALERTMANAGER)
    (gateway.home / "logs").rename(gateway.home / "away")
    (gateway.home / "logs").write_text("not a folder")
    gateway.ask("Hello")
    kinds, samples = parse(gateway.metrics())
    assert {name: kind for name, kind in kinds.items() if name.startswith("gateway_")} == {
        name: kind for name, (kind, _) in TABLE.items()
    }
    for name, (kind, labels) in TABLE.items():
        suffix = "_bucket" if kind == "histogram" else ""
        found = [given for sample, given, _ in samples if sample == name + suffix]
        assert found, name
        wanted = labels | ({"le"} if kind == "histogram" else set())
        assert {frozenset(given) for given in found} == {frozenset(wanted)}, name
    for name, bounds in BUCKETS.items():
        series: dict[frozenset[tuple[str, str]], list[float]] = {}
        for sample, given, _ in samples:
            if sample == f"{name}_bucket":
                bound = float(given.pop("le"))
                series.setdefault(frozenset(given.items()), []).append(bound)
        assert all(found == [*bounds, float("inf")] for found in series.values()), name


def test_requests_are_labelled_by_route_template_and_status(gateway: Gateway) -> None:
    gateway.get("/shell/shell.js")
    gateway.get("/shell/nothing.js")
    gateway.get("/no/such/path")
    gateway.post("/api/chat", b"{")
    _, samples = parse(gateway.metrics())
    requests = {
        (given["method"], given["path"], given["status"])
        for name, given, _ in samples
        if name == "gateway_http_requests_total"
    }
    assert {
        ("GET", "/shell/{name}", "200"),
        ("GET", "/shell/{name}", "404"),
        ("POST", "/api/chat", "400"),
    } <= requests
    assert not any(path.startswith("/no/") for _, path, _ in requests)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("gateway_kernel_dispatch_total", {"source": "web", "status": "error"}),
        ("gateway_kernel_dispatch_total", {"source": "api", "status": "rejected"}),
        ("gateway_ai_cost_usd_total", {"model": MODEL}),
        ("gateway_ai_tokens_total", {"model": MODEL, "direction": "output"}),
        ("gateway_dispatch_queue_depth", {}),
        ("gateway_ws_connections_active", {}),
        ("gateway_alerts_firing", {"severity": "critical"}),
    ],
)
def test_series_start_at_0_so_that_the_first_increase_shows(
    start_gateway: Callable[..., Gateway], name: str, labels: dict[str, str]
) -> None:
    _, samples = parse(start_gateway().metrics())
    assert (name, labels, 0.0) in samples
