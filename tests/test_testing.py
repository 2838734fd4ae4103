"""`telemetry.testing`, which users build their tests on."""

from __future__ import annotations

import threading

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

import telemetry
from telemetry import metrics
from telemetry.catalog import Metric
from telemetry.metrics.points import Point
from telemetry.testing import collect, fixed_clock, isolated

DURATION = "http_server_request_duration_seconds"
ORDERS = metrics.counter(Metric("test.orders", "counter", "{order}", "Orders.", ("country",)))
BOUND = ORDERS.bind({"country": "de"})


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


@pytest.fixture
def app() -> object:
    return telemetry.instrument(Starlette(routes=[Route("/items/{id}", hello)]))


def test_each_isolated_block_records_an_app_instrumented_before(app: object) -> None:
    for _ in range(3):
        with isolated() as recorded, TestClient(app) as client:  # type: ignore[arg-type]
            client.get("/items/1")
            assert recorded.value(DURATION, http_route="/items/{id}") == 1
        assert recorded.value(DURATION, http_route="/items/{id}") == 1, (
            "readable after the block too"
        )


def test_isolated_block_keeps_bound_series_and_restores_values() -> None:
    ORDERS.add(1, {"country": "fr"})
    BOUND.add(5)
    before = collect()
    with isolated() as recorded:
        assert recorded.value("test_orders_total") is None
        BOUND.add(2)
        assert recorded.value("test_orders_total", country="de") == 2
        assert recorded.value("test_orders_total", country="fr") is None
        ORDERS.add(1, {"country": "it"})
        assert recorded.value("test_orders_total") == 3
    assert collect() == before
    BOUND.add(1)
    key = ("test_orders_total", (("country", "de"),))
    assert collect()[key] == before[key] + 1
    assert recorded.value("test_orders_total", country="de") == 2


def test_isolated_blocks_can_be_nested() -> None:
    with isolated() as outer:
        BOUND.add(1)
        with isolated() as inner:
            BOUND.add(10)
            assert inner.value("test_orders_total") == 10
        assert outer.value("test_orders_total") == 1


def test_nothing_is_started_or_exported(app: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    before = {thread.name for thread in threading.enumerate()}
    with isolated():
        inside = telemetry.instrument(Starlette(), service_name="shop")
        telemetry.start()
        with TestClient(inside) as client:
            client.get("/")
        assert telemetry.flush()
    started = {t.name for t in threading.enumerate()} - before
    assert not {name for name in started if name.startswith("telemetry")}


def test_error_in_isolated_block_is_raised_and_values_are_restored() -> None:
    before = collect()

    def failing() -> None:
        with isolated():
            BOUND.add(100)
            raise LookupError

    with pytest.raises(LookupError):
        failing()
    assert collect() == before


def test_value_matches_absent_labels_and_sources() -> None:
    class Source:
        resource = {"service.name": "ledger"}  # noqa: RUF012
        metrics = (ORDERS.metric,)

        def leads(self) -> bool:
            return True

        def collect(self) -> list[Point]:
            return [Point(ORDERS.metric, {"country": "es"}, 4.0, 1)]

    with isolated() as recorded:
        metrics.register_source(Source())
        ORDERS.add()
        assert recorded.value("test_orders_total", country="") == 1
        assert recorded.value("test_orders_total", country="es") == 4
        assert {p.metric.prometheus for p in recorded.points()} == {"test_orders_total"}
    with isolated() as recorded:
        assert recorded.value("test_orders_total") is None


def test_fixed_clock_advances_by_its_step() -> None:
    clock = fixed_clock(100, 5)
    assert [clock(), clock(), clock()] == [100, 105, 110]
    still = fixed_clock(7)
    assert {still(), still()} == {7}
