"""Metrics on a separate port: our server's and the OpenTelemetry Prometheus exporter's."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry import metrics as otel_metrics
from prometheus_client.parser import text_string_to_metric_families

from telemetry import catalog
from telemetry.catalog import Metric
from telemetry.export import metrics_server
from telemetry.export.exposition import Renderer
from telemetry.export.pipeline import Pipeline
from telemetry.metrics.registry import Registry
from telemetry.settings.library import Settings
from tests.ports import free_port

QUIET = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
ORDERS = Metric("shop.orders", "counter", "{order}", "Orders.", ("country",))


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    made = Pipeline(Settings.from_env(QUIET), Registry())
    made.registry.instrument(ORDERS).at({"country": "de"}).cells[0] = 3
    cells = made.registry.instrument(catalog.HTTP_SERVER_REQUEST_DURATION).at({}).cells
    cells[0], cells[3] = 0.5, 2
    yield made
    made.shutdown()


def get(url: str, accept: str = "") -> tuple[str, str]:
    request = urllib.request.Request(url, headers={"accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.headers["content-type"], response.read().decode()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_separate_port_serves_metrics(pipeline: Pipeline) -> None:
    port = free_port()
    metrics_server.serve_metrics(pipeline.page.render, port)
    kind, text = get(f"http://127.0.0.1:{port}/metrics?x=1")
    assert kind.startswith("text/plain")
    assert samples(text)["shop_orders_total", (("country", "de"),)] == 3
    kind, text = get(f"http://127.0.0.1:{port}/metrics", "application/openmetrics-text")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(f"http://127.0.0.1:{port}/other")
    caught.value.close()
    assert caught.value.code == 404


def test_taken_port_is_logged_and_nothing_raises(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        metrics_server.serve_metrics(pipeline.page.render, port)
    assert f"can't serve metrics on 127.0.0.1:{port}: " in caplog.text
    assert "set TELEMETRY_METRICS_PORT to another" in caplog.text


def test_prometheus_exporter_serves_our_and_app_metrics_by_same_names() -> None:
    port = free_port()
    environ = QUIET | {
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
    }
    pipeline = Pipeline(Settings.from_env(environ), Registry())
    pipeline.registry.instrument(ORDERS).at({"country": "de"}).cells[0] = 3
    cells = pipeline.registry.instrument(catalog.HTTP_SERVER_REQUEST_DURATION).at({}).cells
    cells[0], cells[3] = 0.5, 2
    reader = metrics_server.prometheus_reader("127.0.0.1", port, pipeline.page.own_points)
    from opentelemetry.sdk.metrics import MeterProvider

    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("own").create_counter("own.orders", "{order}").add(2)
    try:
        found = samples(get(f"http://127.0.0.1:{port}/metrics")[1])
        ours = samples(Renderer().render(pipeline.page.own_points()).decode())
    finally:
        provider.shutdown()
    assert found["own_orders_total", ()] == 2
    assert {key: found[key] for key in ours} == ours, "both routes give the same text"
    assert not [key for key in found if "otel_scope" in str(key)]
    assert otel_metrics.get_meter_provider() is not provider
