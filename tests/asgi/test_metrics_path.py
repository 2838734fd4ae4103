"""The path of the metrics page: its methods, its prefixes, and that it is not counted."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Route

import telemetry
from tests.asgi.shop import hello, shop
from tests.fixtures.asgi import call, requests

pytestmark = pytest.mark.usefixtures("recorded")


async def test_metrics_page_responds_and_is_not_counted() -> None:
    app = shop()
    await call(app, "/items/1")
    answer = await call(app, "/metrics")
    assert answer.status == 200
    assert b'http_route="/items/{id}"' in answer.body
    assert requests() == {("/items/{id}", "200", ""): 1}


async def test_metrics_page_responds_under_root_path_and_in_inner_app() -> None:
    app = shop()
    assert (await call(app, "/shop/metrics", root_path="/shop")).status == 200
    assert (await call(app, "/other/metrics")).status == 404
    inner = telemetry.instrument(Starlette(), metrics_path="/inner-metrics")
    outer = telemetry.instrument(BaseHTTPMiddleware(inner, dispatch=lambda r, n: n(r)))
    assert (await call(outer, "/inner-metrics")).status == 200


@pytest.mark.parametrize("given", ["argument", "environment"])
async def test_metrics_page_can_be_off_or_at_another_path(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Starlette(routes=[Route("/metrics", hello)])
    if given == "environment":
        monkeypatch.setenv("TELEMETRY_METRICS_PATH", "off")
        wrapped = telemetry.instrument(app)
    else:
        wrapped = telemetry.instrument(app, metrics_path="")
    assert (await call(wrapped, "/metrics")).body == b"hello"
    elsewhere = telemetry.instrument(Starlette(), metrics_path="/internal/numbers")
    assert (await call(elsewhere, "/internal/numbers")).status == 200


async def test_metrics_page_accepts_get_and_head_only() -> None:
    app = shop()
    await call(app, "/items/1")
    assert (await call(app, "/metrics", "POST")).status == 405
    head = await call(app, "/metrics", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers[b"content-length"]) > 0
