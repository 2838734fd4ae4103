"""Templates of Litestar, Quart and Django; Datasette, which has none, is one group."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import telemetry
from telemetry.testing import Recorded
from tests.fixtures.asgi import DURATION, call, requests

pytestmark = pytest.mark.usefixtures("recorded")


# --- Litestar -------------------------------------------------------------------------------


def litestar() -> Any:
    from litestar import Litestar, Request, Router, get

    @get("/items/{id:int}")
    async def item(request: Request[Any, Any, Any]) -> str:
        return str(request.path_params["id"])

    @get("/broken")
    async def broken() -> str:
        raise LookupError

    return Litestar([Router("/api/{version:str}", route_handlers=[item]), broken])


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/api/1/items/4", ("/api/{version}/items/{id}", "200", "")),
        ("/broken", ("/broken", "500", "500")),  # Litestar responds and raises nothing
        ("/none", ("", "404", "")),
    ],
)
async def test_litestar_requests_are_counted_under_template(
    path: str, outcome: tuple[str, str, str]
) -> None:
    await call(telemetry.instrument(litestar()), path)
    assert requests() == {outcome: 1}


async def test_litestar_template_includes_mount() -> None:
    app = telemetry.instrument(Starlette(routes=[Mount("/{shop}", app=litestar())]))
    await call(app, "/acme/broken")
    assert {key[0] for key in requests()} == {"/{shop}/broken"}


# --- Quart ----------------------------------------------------------------------------------


def quart() -> Any:
    from quart import Blueprint, Quart

    app = Quart("shop")
    blueprint = Blueprint("api", "api", url_prefix="/api/<version>")

    @blueprint.get("/items/<int:id>")
    async def item(version: str, id: int) -> str:
        return str(id)

    @blueprint.get("/broken")
    async def broken(version: str) -> str:
        raise LookupError

    app.register_blueprint(blueprint)
    return app


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/api/1/items/4", ("/api/<version>/items/<int:id>", "200", "")),
        ("/api/1/broken", ("/api/<version>/broken", "500", "500")),
        ("/api/1/items/four", ("", "404", "")),
        ("/none", ("", "404", "")),
    ],
)
async def test_quart_requests_are_counted_under_template(
    path: str, outcome: tuple[str, str, str]
) -> None:
    await call(telemetry.instrument(quart()), path)
    assert requests() == {outcome: 1}


# --- Django ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def django_app() -> Any:
    import django
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpRequest, HttpResponse
    from django.urls import include, path

    def item(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return HttpResponse("x")

    def broken(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        raise LookupError

    urls: Any = types.ModuleType("shop_urls")
    urls.urlpatterns = [
        path("shop/<slug:shop>/", include([path("items/<int:id>/", item), path("broken/", broken)]))
    ]
    sys.modules["shop_urls"] = urls
    settings.configure(
        ROOT_URLCONF="shop_urls", ALLOWED_HOSTS=["*"], SECRET_KEY="x", LOGGING_CONFIG=None
    )
    django.setup()
    return get_asgi_application()


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/shop/acme/items/4/", ("/shop/<slug:shop>/items/<int:id>/", "200", "")),
        ("/shop/acme/broken/", ("/shop/<slug:shop>/broken/", "500", "500")),
        ("/shop/acme/items/four/", ("", "404", "")),
        ("/none", ("", "404", "")),
    ],
)
async def test_django_requests_are_counted_under_template(
    django_app: Any, path: str, outcome: tuple[str, str, str]
) -> None:
    await call(telemetry.instrument(django_app), path)
    assert requests() == {outcome: 1}


# --- Datasette ------------------------------------------------------------------------------


async def test_datasette_requests_are_counted_without_route(recorded: Recorded) -> None:
    """Its routes are regular expressions that it doesn't expose; its paths are the user's data."""
    from datasette.app import Datasette

    app = telemetry.instrument(Datasette(memory=True).app())
    assert (await call(app, "/")).status == 200
    assert (await call(app, "/_memory")).status == 200
    for number in range(2):  # it prints a long trace for each
        await call(app, f"/none-{number}/table")
    assert requests() == {("", "200", ""): 2, ("", "404", ""): 2}
    shown = (await call(app, "/metrics")).body.decode()
    assert "none-" not in shown
    assert recorded.value(DURATION) == 4
