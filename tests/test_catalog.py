"""Every metric has the same Prometheus name by OTLP and by scrape, as the dashboards expect."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from telemetry import catalog
from telemetry.catalog import METRICS, Metric
from telemetry.naming import label_name, prometheus_name, unit_suffix

# Units as OTLP's route renames them: `unitMap` in Prometheus' otlptranslator.
_OTLP_UNITS = {"s": "seconds", "By": "bytes", "%": "percent", "usd": "usd"}


def otlp_name(metric: Metric) -> str:
    """Translate a name by UnderscoreEscapingWithSuffixes, independently of the package's code.

    Source: https://github.com/prometheus/otlptranslator/blob/main/metric_namer.go
    """
    tokens = [token for token in re.split(r"[^a-zA-Z0-9:]", metric.name) if token]
    unit = re.sub(r"\{.*\}", "", metric.unit)
    if unit and _OTLP_UNITS[unit] not in tokens:
        tokens.append(_OTLP_UNITS[unit])
    if metric.kind == "counter":
        tokens = [token for token in tokens if token != "total"] + ["total"]
    return "_".join(tokens)


@pytest.fixture(scope="module")
def exported() -> Iterator[dict[str, str]]:
    """Name and type of each metric by OpenTelemetry's own Prometheus exporter."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    for metric in METRICS.values():
        if metric.kind == "counter":
            meter.create_counter(metric.name, metric.unit).add(1)
        elif metric.kind == "updowncounter":
            meter.create_up_down_counter(metric.name, metric.unit).add(1)
        elif metric.kind == "gauge":
            meter.create_gauge(metric.name, metric.unit).set(1)
        else:
            meter.create_histogram(metric.name, metric.unit).record(1)
    yield {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in registry.collect()
    }
    provider.shutdown()


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_one_name_on_both_routes(metric: Metric, exported: dict[str, str]) -> None:
    kind = "gauge" if metric.kind == "updowncounter" else metric.kind
    assert exported.get(metric.prometheus) == kind
    assert otlp_name(metric) == metric.prometheus


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_each_entry_is_complete(metric: Metric) -> None:
    assert metric.description.endswith(".")
    assert (metric.kind == "histogram") == bool(metric.buckets)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.unit != "1", "a gauge of unit 1 gets _ratio on one route"
    labels = [label_name(key) for key in metric.attributes]
    assert len(set(labels)) == len(labels), "two attributes would be one label"
    assert getattr(catalog, re.sub(r"[.]", "_", metric.name).upper()) is metric


def test_prometheus_names_are_unique() -> None:
    names = [metric.prometheus for metric in METRICS.values()]
    assert len(set(names)) == len(names)


def test_namespaced_bucket_bounds_are_a_subset_of_the_conventions() -> None:
    assert set(catalog.NAMESPACED_BUCKETS) <= set(catalog.DURATION_BUCKETS)


@pytest.mark.parametrize(
    ("name", "kind", "unit", "expected"),
    [
        ("gateway.ai.cost", "counter", "usd", "gateway_ai_cost_usd_total"),
        ("gateway.http.requests", "counter", "{request}", "gateway_http_requests_total"),
        ("platform.container.cpu", "gauge", "%", "platform_container_cpu_percent"),
        ("platform.containers.total", "gauge", "{container}", "platform_containers_total"),
        ("disk.bytes", "gauge", "By", "disk_bytes"),
        ("a.total.b", "counter", "", "a_b_total"),
        ("9lives", "counter", "", "_9lives_total"),
        ("a..b--c", "gauge", "", "a_b_c"),
    ],
)
def test_prometheus_names(name: str, kind: catalog.Kind, unit: str, expected: str) -> None:
    assert prometheus_name(name, kind, unit) == expected


def test_units_and_labels() -> None:
    suffixes = {"{request}": "", "s": "seconds", "By": "bytes", "usd": "usd", "": ""}
    assert {unit: unit_suffix(unit) for unit in suffixes} == suffixes
    assert [label_name(key) for key in ("http.route", "9a", "ok_1")] == [
        "http_route",
        "_9a",
        "ok_1",
    ]
