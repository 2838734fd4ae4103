"""Templates of Starlette's routes below mounts, hosts and sub-apps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

import telemetry
from telemetry.asgi import frameworks
from tests.fixtures.asgi import call, requests

pytestmark = pytest.mark.usefixtures("recorded")


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


class Passing:
    """A middleware that changes nothing."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def site(folder: Path) -> Any:
    sub = Starlette(routes=[Route("/users/{id:int}", hello), Route("/", hello)])
    return telemetry.instrument(
        Starlette(
            routes=[
                Mount("/a/{tenant}", routes=[Mount("/b", routes=[Route("/c/{d:path}", hello)])]),
                Mount("/sub", app=sub),
                Mount("/wrapped", app=Passing(sub)),
                Mount("/static", app=StaticFiles(directory=folder)),
                Host("{name}.shops.example", app=Router([Route("/offers/{id}", hello)])),
                Route("/slash/", hello),
                Route("/", hello),
            ]
        )
    )


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/", "/"),
        ("/a/acme/b/c/d/e/f", "/a/{tenant}/b/c/{d}"),
        ("/sub/users/7", "/sub/users/{id}"),
        ("/sub/", "/sub/"),
        ("/wrapped/users/7", "/wrapped/users/{id}"),
        ("/static/file.txt", "/static/{path}"),
        ("/a/acme/b/none", ""),
        ("/sub/none", ""),
        ("/none", ""),
        ("/slash", ""),  # redirected to /slash/
    ],
)
async def test_request_is_counted_under_template(path: str, template: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    await call(site(tmp_path), path)
    ((found, _, _),) = requests()
    assert found == template


async def test_missing_static_files_are_one_group(tmp_path: Path) -> None:
    app = site(tmp_path)
    for number in range(20):
        await call(app, f"/static/{number}.js")
    assert requests() == {("/static/{path}", "404", ""): 20}


async def test_template_excludes_host() -> None:
    app = telemetry.instrument(
        Starlette(routes=[Host("{name}.shops.example", Router([Route("/offers/{id}", hello)]))])
    )
    for name in ("one", "two"):
        host = f"{name}.shops.example".encode()
        await call(app, "/offers/1", headers=[(b"host", host)])
    await call(app, "/offers/1", headers=[(b"host", b"example.org")])
    assert requests() == {("/offers/{id}", "200", ""): 2, ("", "404", ""): 1}


async def test_same_route_in_two_mounts_has_two_templates() -> None:
    shared = [Route("/items/{id}", hello)]
    app = telemetry.instrument(
        Starlette(routes=[Mount("/v1", routes=shared), Mount("/v2", routes=shared)])
    )
    for path in ("/v1/items/1", "/v2/items/1", "/v1/items/2"):
        await call(app, path)
    assert requests() == {("/v1/items/{id}", "200", ""): 2, ("/v2/items/{id}", "200", ""): 1}


async def test_id_of_deleted_route_is_not_reused() -> None:
    """Outcomes are cached by the route's id. The cache keeps the route, so no id is reused."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Route(scope["path"] + "/{x}", hello)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    wrapped = telemetry.instrument(app)
    for number in range(50):
        await call(wrapped, f"/{number}")
    assert requests() == {(f"/{number}/{{x}}", "200", ""): 1 for number in range(50)}


@pytest.mark.parametrize(("version", "old"), [("0.41.3", True), ("1.6", True), ("1.7.0", False)])
def test_starlette_before_1_7_is_older(version: str, old: bool) -> None:
    assert frameworks._is_older(version, (1, 7)) is old


async def test_route_of_old_router_stores_itself_in_scope() -> None:
    class OldRoute:
        path_format = "/items/{id}"

        async def handle(self, scope: Any, receive: Any, send: Any) -> None:
            await PlainTextResponse("old")(scope, receive, send)

    OldRoute.handle = frameworks._storing_route(OldRoute.handle)  # type: ignore[method-assign]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await OldRoute().handle(scope, receive, send)

    await call(telemetry.instrument(app), "/items/1")
    assert requests() == {("/items/{id}", "200", ""): 1}


def test_unsupported_framework_version_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import types

    module = types.ModuleType("quart.ctx")
    frameworks._once(frameworks._quart)(module)
    assert "quart.ctx is not supported" in caplog.text
