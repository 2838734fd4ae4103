"""Hooks into ASGI servers: the app they load is instrumented before they call it.

Each hook waits for the server's module to be imported, so nothing is imported for its sake.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import wrapt


def hook() -> None:
    """Have the servers instrument what they load, now or when they are imported."""
    wrapt.register_post_import_hook(_uvicorn, "uvicorn.config")
    wrapt.register_post_import_hook(_hypercorn, "hypercorn.utils")
    wrapt.register_post_import_hook(_granian, "granian.asgi")
    wrapt.register_post_import_hook(_daphne, "daphne.server")


def instrumented(app: Any) -> Any:
    """``app``, instrumented; as it is where a setting can't be used, which is said once."""
    import telemetry

    try:
        return telemetry.instrument(app)
    except telemetry.TelemetryError as error:
        print(f"telemetry: not instrumented: {error.message}", file=sys.stderr)
        return app


def _uvicorn(module: Any) -> None:
    # uvicorn, and gunicorn with uvicorn's worker: both end in Config.load. Its interface
    # detection and its own middleware come first, ours goes around all of it.
    load = module.Config.load

    @functools.wraps(load)
    def loading(self: Any) -> None:
        load(self)
        if self.interface != "wsgi":
            self.loaded_app = instrumented(self.loaded_app)

    module.Config.load = loading


def _hypercorn(module: Any) -> None:
    wrap_app = module.wrap_app

    @functools.wraps(wrap_app)
    def wrapping(app: Any, *args: Any, **kwargs: Any) -> Any:
        mode = kwargs.get("mode") or (args[1] if len(args) > 1 else None)
        if mode is None:
            mode = "asgi" if module.is_asgi(app) else "wsgi"
        return wrap_app(instrumented(app) if mode == "asgi" else app, *args, **kwargs)

    module.wrap_app = wrapping
    for name in ("hypercorn.run", "hypercorn.asyncio", "hypercorn.asyncio.run"):
        # Those that took the function by name before this hook ran.
        user = sys.modules.get(name)
        if user is not None and getattr(user, "wrap_app", None) is wrap_app:
            user.wrap_app = wrapping  # type: ignore[attr-defined]


def _granian(module: Any) -> None:
    # Its workers get the app as loaded and wrap it here, for requests and for the lifespan.
    wrapper, init = module._callback_wrapper, module.LifespanProtocol.__init__

    @functools.wraps(wrapper)
    def wrapping(callback: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(instrumented(callback), *args, **kwargs)

    @functools.wraps(init)
    def initialising(self: Any, callback: Any) -> None:
        init(self, instrumented(callback))

    module._callback_wrapper = wrapping
    module.LifespanProtocol.__init__ = initialising


def _daphne(module: Any) -> None:
    init = module.Server.__init__

    @functools.wraps(init)
    def initialising(self: Any, application: Any, *args: Any, **kwargs: Any) -> None:
        init(self, instrumented(application), *args, **kwargs)

    module.Server.__init__ = initialising
