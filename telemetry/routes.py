"""The route template of a request, found without matching its path a second time.

Starlette's router (FastAPI's too) leaves the route it chose in ``scope["route"]``; what it
doesn't leave is the template of the mounts on the way, only their real path. So `Mount`
notes its own template as it hands a request on.
"""

from __future__ import annotations

from typing import Any

import wrapt

PREFIX = "telemetry.route_prefix"


def watch_mounts() -> None:
    """Have Starlette's mounts leave their template, now or when Starlette is imported."""
    wrapt.register_post_import_hook(_patch, "starlette.routing")


def _patch(routing: Any) -> None:
    if getattr(routing.Mount.handle, "_telemetry", False):
        return
    original = routing.Mount.handle

    # Not async: it returns the original's coroutine, which costs no further frame.
    def handle(self: Any, scope: Any, receive: Any, send: Any) -> Any:
        scope[PREFIX] = scope.get(PREFIX, "") + self.path
        return original(self, scope, receive, send)

    handle._telemetry = True  # type: ignore[attr-defined]
    routing.Mount.handle = handle


def template(route: Any, prefix: str) -> str:
    """The full template, e.g. ``/api/users/{id}``; "" where nothing matched.

    Args:
        route: what ``scope["route"]`` held at the end of the request, or None.
        prefix: templates of the mounts passed through.
    """
    if route is None:
        return ""
    if hasattr(route, "app") and hasattr(route, "routes"):
        # A mount or host was the last to match. With routes of its own none of them fitted:
        # unmatched. Without, it is a foreign app (static files, WSGI): one group for all of it.
        if route.routes:
            return ""
        return f"{prefix}/{{path}}"
    path = getattr(route, "path", None)
    if not isinstance(path, str):
        return ""
    return prefix + path or "/"
