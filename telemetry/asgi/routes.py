"""Route templates of requests, without matching a path a second time.

Starlette's router stores the matched route in ``scope["route"]``. The hooks in `frameworks` add
the rest of the template to ``scope[NOTE]``: the mounts that a request passes through, and the
templates that other frameworks' routers match.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

NOTE = "telemetry.route"
"""Key of a note: the templates of the mounts so far, or `WHOLE` and a complete template."""

WHOLE = "="


def note_whole(scope: MutableMapping[str, Any], template: str) -> None:
    """Note that a router has matched ``template``, below the mounts noted so far."""
    note = scope.get(NOTE, "")
    if not note.startswith(WHOLE):
        scope[NOTE] = f"{WHOLE}{note}{template}"


def note_mount(scope: MutableMapping[str, Any], mount: Any, template: str) -> None:
    """Note that a request passes through ``mount``, which has the template ``template``."""
    scope["route"] = mount  # Starlette's router does this since 1.7, FastAPI's doesn't
    note = scope.get(NOTE, "")
    if not note.startswith(WHOLE):
        scope[NOTE] = note + template


def current(scope: MutableMapping[str, Any]) -> str:
    """Get the template matched so far, while a connection is open."""
    if "path_template" in scope:
        note_whole(scope, scope["path_template"])
    return template(scope.get("route"), scope.get(NOTE, ""))


def template(route: Any, note: str) -> str:
    """Build the full template, e.g. ``/api/users/{id}``; "" if no route matched.

    Args:
        route: ``scope["route"]`` at the end of the request, or None.
        note: ``scope[NOTE]`` at the end of the request.
    """
    if note.startswith(WHOLE):
        return note[1:] or "/"
    if route is None:
        return ""
    if hasattr(route, "app") and hasattr(route, "routes"):
        # A mount or host matched last. If it has routes, none of them matched the request. If
        # not, it is another app (static files, WSGI): one template for all of its paths.
        if route.routes:
            return ""
        return f"{note}/{{path}}"
    # Without converters: `/items/{id}`. `path` may be `/items/{id:int}`.
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    if not isinstance(path, str):
        return ""
    return note + path or "/"
