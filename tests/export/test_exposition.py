"""The page at `/metrics`, parsed by prometheus_client, which accepts what Prometheus accepts."""

from __future__ import annotations

import gzip
import math
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from starlette.applications import Starlette

import telemetry
from telemetry import metrics
from telemetry.catalog import Metric
from telemetry.export.exposition import OPENMETRICS, TEXT, Renderer
from telemetry.metrics.points import HistogramValue, Point
from telemetry.metrics.registry import OVERFLOW
from tests.fixtures.asgi import call

ORDERS = Metric("shop.orders", "counter", "{order}", 'Orders, "all"\nof \\ them.')
COST = Metric("shop.cost", "counter", "usd", "Cost.")
DEPTH = Metric("shop.depth", "gauge", "By", "Depth.")
OPEN = Metric("shop.open", "updowncounter", "{order}", "Open.")
TIME = Metric("shop.time", "histogram", "s", "Time.", (), (0.5, 1.0))

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


def points() -> list[Point]:
    return [
        Point(ORDERS, {"country": 'a"b\\c\nd %s %%'}, 3.0, 1),
        Point(DEPTH, {}, -1.5, 1),
        Point(ORDERS, OVERFLOW, 2.0, 1),
        Point(COST, {"http.route": "/x/{y}"}, 0.1, 1),
        Point(OPEN, {}, 4.0, 1),
        Point(TIME, {"country": "de"}, HistogramValue(2.25, [1, 0, 2]), 1),
        Point(ORDERS, {"country": "ended"}, None, 1),
    ]


def samples(families: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


EXPECTED = {
    ("shop_orders_total", (("country", 'a"b\\c\nd %s %%'),)): 3,
    ("shop_orders_total", (("otel_metric_overflow", "true"),)): 2,
    ("shop_depth_bytes", ()): -1.5,
    ("shop_cost_usd_total", (("http_route", "/x/{y}"),)): 0.1,
    ("shop_open", ()): 4,
    ("shop_time_seconds_bucket", (("country", "de"), ("le", "0.5"))): 1,
    ("shop_time_seconds_bucket", (("country", "de"), ("le", "1.0"))): 1,
    ("shop_time_seconds_bucket", (("country", "de"), ("le", "+Inf"))): 3,
    ("shop_time_seconds_sum", (("country", "de"),)): 2.25,
    ("shop_time_seconds_count", (("country", "de"),)): 3,
}


def test_text_format_has_all_counts() -> None:
    families = list(read_text(Renderer().render(points()).decode()))
    assert samples(families) == EXPECTED
    assert {f.name: f.type for f in families} == {
        "shop_orders": "counter",
        "shop_depth_bytes": "gauge",
        "shop_cost_usd": "counter",
        "shop_open": "gauge",
        "shop_time_seconds": "histogram",
    }


@pytest.mark.parametrize(("openmetrics", "read"), [(False, read_text), (True, read_openmetrics)])
def test_metric_without_series_is_declared(openmetrics: bool, read: Any) -> None:
    shown = [Point(DEPTH, {}, 1.0, 1)]
    chunks = Renderer().chunks(shown, [ORDERS, DEPTH, TIME], openmetrics=openmetrics)
    families = list(read(b"".join(chunks).decode()))
    assert {(f.name, f.type, f.documentation): len(f.samples) for f in families} == {
        ("shop_depth_bytes", "gauge", DEPTH.description): 1,
        ("shop_orders", "counter", ORDERS.description): 0,
        ("shop_time_seconds", "histogram", TIME.description): 0,
    }


def test_openmetrics_has_same_samples_with_units_and_eof() -> None:
    text = Renderer().render(points(), openmetrics=True).decode()
    families = list(read_openmetrics(text))
    assert samples(families) == EXPECTED
    assert {f.name: f.unit for f in families if f.unit} == {
        "shop_depth_bytes": "bytes",
        "shop_cost_usd": "usd",
        "shop_time_seconds": "seconds",
    }
    assert families[0].documentation == ORDERS.description
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e300, 5e-324])
def test_special_floats_are_rendered_as_prometheus_writes_them(value: float) -> None:
    for openmetrics, read in ((False, read_text), (True, read_openmetrics)):
        text = Renderer().render([Point(DEPTH, {}, value, 1)], openmetrics=openmetrics).decode()
        ((family),) = read(text)
        assert repr(family.samples[0].value) == repr(value)


def test_histogram_without_bounds_has_one_bucket() -> None:
    metric = Metric("own.time", "histogram", "s", "")
    text = Renderer().render([Point(metric, {}, HistogramValue(3.0, [2]), 1)]).decode()
    assert samples(read_text(text))["own_time_seconds_bucket", (("le", "+Inf"),)] == 2


def test_second_rendering_has_new_values() -> None:
    renderer = Renderer()
    for value in (1.0, 2.0):
        text = renderer.render([Point(DEPTH, {"a": "b"}, value, 1)]).decode()
        assert samples(read_text(text)) == {("shop_depth_bytes", (("a", "b"),)): value}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml", TEXT),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("APPLICATION/OpenMetrics-Text; version=1.0.0", OPENMETRICS),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.1", TEXT),
        ("text/*;q=1, application/openmetrics-text;q=0.1", TEXT),
        ("application/openmetrics-text, */*;q=0.1", OPENMETRICS),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=much", TEXT),
    ],
)
@pytest.mark.parametrize("encoding", ["", "gzip, br", "gzip;q=0"])
@pytest.mark.usefixtures("recorded")
async def test_response_has_accepted_format_and_encoding(
    accept: str, content_type: str, encoding: str
) -> None:
    metrics.counter(ORDERS).add(3)
    headers = [(b"accept", accept.encode()), (b"accept-encoding", encoding.encode())]
    answer = await call(telemetry.instrument(Starlette()), "/metrics", headers=headers)
    assert answer.headers[b"content-type"].decode() == content_type
    assert answer.headers[b"vary"] == b"accept, accept-encoding"
    zipped = encoding == "gzip, br"
    assert answer.headers.get(b"content-encoding") == (b"gzip" if zipped else None)
    body = gzip.decompress(answer.body) if zipped else answer.body
    read = read_openmetrics if content_type == OPENMETRICS else read_text
    assert samples(read(body.decode()))["shop_orders_total", ()] == 3
    assert int(answer.headers[b"content-length"]) == len(answer.body)


@pytest.mark.usefixtures("recorded")
async def test_page_is_rendered_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    threads = []
    monkeypatch.setattr(
        Renderer, "chunks", lambda *a, **k: threads.append(threading.current_thread()) or []
    )
    await call(telemetry.instrument(Starlette()), "/metrics")
    assert len(threads) == 1
    assert threads != [threading.current_thread()]
