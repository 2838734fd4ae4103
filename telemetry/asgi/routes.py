"""The route template of a request, found without matching its path a second time.

Starlette's router leaves the route it chose in ``scope["route"]``. What else a template is made
of, the mounts on the way and what other frameworks' routers choose, they note in ``scope[NOTE]``
as they go; `frameworks` has them do so.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

NOTE = "telemetry.route"
"""The templates of the mounts passed through, or a whole template with `WHOLE` before it."""

WHOLE = "="


def note_whole(scope: MutableMapping[str, Any], template: str) -> None:
    """A router has chosen ``template``, below the mounts noted so far."""
    note = scope.get(NOTE, "")
    if not note.startswith(WHOLE):
        scope[NOTE] = f"{WHOLE}{note}{template}"


def note_mount(scope: MutableMapping[str, Any], mount: Any, template: str) -> None:
    """A request is handed on through ``mount``, whose own template is ``template``."""
    scope["route"] = mount  # as Starlette's router does since 1.7, and FastAPI's doesn't
    note = scope.get(NOTE, "")
    if not note.startswith(WHOLE):
        scope[NOTE] = note + template


def current(scope: MutableMapping[str, Any]) -> str:
    """The full template as far as the routers have come, while a connection is open."""
    if "path_template" in scope:
        note_whole(scope, scope["path_template"])
    return template(scope.get("route"), scope.get(NOTE, ""))


def template(route: Any, note: str) -> str:
    """The full template, e.g. ``/api/users/{id}``; "" where nothing matched.

    Args:
        route: what ``scope["route"]`` held at the end of the request, or None.
        note: what ``scope[NOTE]`` held then.
    """
    if note.startswith(WHOLE):
        return note[1:] or "/"
    if route is None:
        return ""
    if hasattr(route, "app") and hasattr(route, "routes"):
        # A mount or host was the last to match. With routes of its own none of them fitted:
        # unmatched. Without, it is a foreign app (static files, WSGI): one group for all of it.
        if route.routes:
            return ""
        return f"{note}/{{path}}"
    # Without converters: `/items/{id}`, where `path` may say `/items/{id:int}`.
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    if not isinstance(path, str):
        return ""
    return note + path or "/"
