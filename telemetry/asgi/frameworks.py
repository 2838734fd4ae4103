"""Hooks into web frameworks: route templates, and suppression of their own instrumentation.

Each hook is installed when its framework is imported, and imports none itself. It always calls
the function that it replaces.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
from collections.abc import Callable
from typing import Any

import wrapt
from opentelemetry import _logs, trace
from opentelemetry import metrics as otel_metrics

from telemetry.asgi import routes

_log = logging.getLogger(__name__)
_UNSET = ("ProxyTracerProvider", "_ProxyMeterProvider", "ProxyLoggerProvider")


def watch() -> None:
    """Hook the frameworks, now or when they are imported."""
    for module, hook in (
        ("starlette.routing", _starlette),
        ("fastapi.routing", _fastapi),
        ("fastapi.telemetry._asgi", _fastapi_telemetry),
        ("django.core.handlers.base", _django),
        ("litestar._asgi.asgi_router", _litestar),
        ("quart.ctx", _quart),
    ):
        wrapt.register_post_import_hook(_once(hook), module)


def _once(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(hook)
    def apply(module: Any) -> None:
        if getattr(module, "_telemetry_hooked", False):
            return
        module._telemetry_hooked = True
        try:
            hook(module)
        except AttributeError as error:
            _log.warning(
                "telemetry: this version of %s is not supported, so its requests have no route: %s",
                module.__name__,
                error,
            )

    return apply


def _starlette(routing: Any) -> None:
    handle = routing.Mount.handle

    # Not async: it returns the original's coroutine, which saves a frame.
    @functools.wraps(handle)
    def noting(self: Any, scope: Any, receive: Any, send: Any) -> Any:
        routes.note_mount(scope, self, self.path_format.removesuffix("/{path}"))
        return handle(self, scope, receive, send)

    routing.Mount.handle = noting

    if _is_older(importlib.metadata.version("starlette"), (1, 7)):
        # Older routers don't store the matched route.
        for kind in (routing.Route, routing.WebSocketRoute):
            kind.handle = _storing_route(kind.handle)


def _is_older(version: str, than: tuple[int, int]) -> bool:
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) < than


def _storing_route(handle: Any) -> Any:
    @functools.wraps(handle)
    def storing(self: Any, scope: Any, receive: Any, send: Any) -> Any:
        scope["route"] = self
        return handle(self, scope, receive, send)

    return storing


def _fastapi(routing: Any) -> None:
    # Since 0.165 FastAPI has its own router. It stores the declared route, without the prefixes
    # of the routers around it, and stores nothing for plain Starlette routes. Older versions
    # store the whole path, like Starlette.
    if not hasattr(routing, "_route_selected"):
        return
    selected = routing._route_selected

    @functools.wraps(selected)
    def noting(*, scope: Any, path: str | None, mount: bool = False) -> None:
        if path is not None and not mount:
            routes.note_whole(scope, path)
        selected(scope=scope, path=path, mount=mount)

    routing._route_selected = noting


def _fastapi_telemetry(module: Any) -> None:
    """Turn off FastAPI's own instrumentation if the only OpenTelemetry provider is ours.

    FastAPI counts and traces requests once there is any provider. A request would be counted
    twice and cost ten times as much.
    """
    native = module.NativeTelemetry
    enabled = native.enabled

    @functools.wraps(enabled)
    def wanted(self: Any) -> bool:
        return bool(enabled(self)) and (
            any(self.config.get(f"{kind}_provider") for kind in ("tracer", "meter", "logger"))
            or _app_has_provider()
        )

    native.enabled = wanted


def _app_has_provider() -> bool:
    """Check whether the app has set a global provider itself."""
    return any(
        not getattr(provider, "telemetry_own", False) and type(provider).__name__ not in _UNSET
        for provider in (
            trace.get_tracer_provider(),
            otel_metrics.get_meter_provider(),
            _logs.get_logger_provider(),
        )
    )


def _django(base: Any) -> None:
    resolve = base.BaseHandler.resolve_request

    @functools.wraps(resolve)
    def noting(self: Any, request: Any) -> Any:
        match = resolve(self, request)
        scope = getattr(request, "scope", None)  # a WSGI request has none
        if scope is not None:
            routes.note_whole(scope, f"/{match.route}")
        return match

    base.BaseHandler.resolve_request = noting


def _litestar(router: Any) -> None:
    call = router.ASGIRouter.__call__

    @functools.wraps(call)
    async def noting(self: Any, scope: Any, receive: Any, send: Any) -> None:
        try:
            await call(self, scope, receive, send)
        finally:
            if "path_template" in scope:
                routes.note_whole(scope, scope["path_template"])

    router.ASGIRouter.__call__ = noting


def _quart(ctx: Any) -> None:
    base = ctx._BaseRequestWebsocketContext
    match_request = base.match_request

    @functools.wraps(match_request)
    def noting(self: Any) -> None:
        match_request(self)
        rule = self.request_websocket.url_rule
        if rule is not None:
            routes.note_whole(self.request_websocket.scope, rule.rule)

    base.match_request = noting
