"""Hooks into ASGI servers: the app they load is instrumented before they call it.

Each is called with a module of the server's, freshly imported, by `telemetry_hooks`.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Iterator
from typing import Any


def instrumented(app: Any) -> Any:
    """``app``, instrumented; as it is where it is already, by ``app = instrument(app)`` under
    whatever its server puts around it, or where a setting can't be used, which is said once."""
    try:
        import telemetry
        from telemetry.asgi.middleware import TelemetryMiddleware
    except ImportError as error:  # an interpreter with other packages than ours needs
        print(f"telemetry: not instrumented, {error} ({sys.executable})", file=sys.stderr)
        return app

    inner, seen = app, 0
    while inner is not None and seen < 10:  # its server adds two or three
        if isinstance(inner, TelemetryMiddleware):
            return app
        inner, seen = vars(inner).get("app") if hasattr(inner, "__dict__") else None, seen + 1
    try:
        return telemetry.instrument(app)
    except telemetry.TelemetryError as error:
        print(f"telemetry: not instrumented: {error.message}", file=sys.stderr)
        return app


def uvicorn_config(module: Any) -> None:
    """Instrument what uvicorn loads, and tell why it can't load it."""
    # uvicorn, and gunicorn with uvicorn's worker: both end in Config.load. Its interface
    # detection and its own middleware come first, ours goes around all of it.
    load = module.Config.load

    @functools.wraps(load)
    def loading(self: Any) -> None:
        with _failure_told(self.app):
            load(self)
        if self.interface != "wsgi":
            self.loaded_app = instrumented(self.loaded_app)

    module.Config.load = loading
    load_app = getattr(module.Config, "load_app", None)
    if load_app is not None:  # by which `uvicorn.run` of today tries the app before it serves

        @functools.wraps(load_app)
        def loading_app(self: Any) -> Any:
            with _failure_told(self.app):
                return load_app(self)

        module.Config.load_app = loading_app


@contextlib.contextmanager
def _failure_told(app: Any) -> Iterator[None]:
    """Where ``app`` is named and can't be loaded, have the parent of the run say why. What its
    import raised is shown without the server's frames, and ends the process in the way that
    uvicorn takes for a failed start: with several workers it would try for ever otherwise."""
    from telemetry.run import load_failure

    if not isinstance(app, str):
        yield
        return
    try:
        yield
    except load_failure.Failed:
        raise
    except SystemExit as error:
        load_failure.not_found(app, error)
        raise
    except Exception as error:
        raise load_failure.not_loaded(app, error) from None
    load_failure.none()


def uvicorn_server(module: Any) -> None:
    """Export what is left when uvicorn has served its last request."""
    import asyncio  # which uvicorn has imported anyway, and other programs needn't

    serve = module.Server._serve

    @functools.wraps(serve)
    async def serving(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            await serve(self, *args, **kwargs)
        finally:
            # It raises the signal that ended it again, of which the process dies without
            # running atexit; and not every app has a lifespan, at whose end we export.
            await asyncio.to_thread(_finish)

    module.Server._serve = serving


def _finish() -> None:
    from telemetry import instrumentation
    from telemetry.run import run_folder

    pipeline = instrumentation.current_pipeline()
    if pipeline is not None:
        pipeline.finish()
    run_folder.end_own()


def uvicorn_manager(module: Any) -> None:
    """Export what uvicorn says of its workers."""
    from telemetry.run import manager_logs

    module.Multiprocess.run = manager_logs.logged(module.Multiprocess.run)


def gunicorn_manager(module: Any) -> None:
    """Export what gunicorn says of its workers."""
    from telemetry.run import manager_logs

    module.Arbiter.run = manager_logs.logged(module.Arbiter.run)


def gunicorn_asgi(module: Any) -> None:
    """Instrument what gunicorn's own ASGI worker has loaded."""
    load = module.ASGIWorker.load_wsgi

    @functools.wraps(load)
    def loading(self: Any) -> None:
        load(self)
        self.asgi = instrumented(self.asgi)

    module.ASGIWorker.load_wsgi = loading


def hypercorn(module: Any) -> None:
    """Instrument what hypercorn wraps."""
    wrap_app = module.wrap_app

    @functools.wraps(wrap_app)
    def wrapping(app: Any, *args: Any, **kwargs: Any) -> Any:
        mode = kwargs.get("mode") or (args[1] if len(args) > 1 else None)
        if mode is None:
            mode = "asgi" if module.is_asgi(app) else "wsgi"
        return wrap_app(instrumented(app) if mode == "asgi" else app, *args, **kwargs)

    module.wrap_app = wrapping


def hypercorn_manager(module: Any) -> None:
    """Let hypercorn's workers come to their end: it terminates those that are still at it once
    the first has exited, and with them what they were to export and the app was to close."""
    from telemetry.export.pipeline import FINISH_TIMEOUT_S

    if not hasattr(module, "_join_exited"):
        return  # another version, which may well do it right
    populate, join_exited = module._populate, module._join_exited
    config: Any = None
    shutdown_event: Any = None

    @functools.wraps(populate)
    def populating(
        processes: Any, given: Any, worker: Any, sockets: Any, event: Any, *args: Any
    ) -> None:
        nonlocal config, shutdown_event
        config, shutdown_event = given, event
        populate(processes, given, worker, sockets, event, *args)

    @functools.wraps(join_exited)
    def joining(processes: Any) -> int:
        code = int(join_exited(processes))
        if code:
            shutdown_event.set()  # as it is about to do: one that crashed ends them all
        if shutdown_event.is_set():
            deadline = time.monotonic() + config.graceful_timeout + FINISH_TIMEOUT_S
            for process in processes:
                process.join(max(0.0, deadline - time.monotonic()))
            code = code or int(join_exited(processes))
        return code

    module._populate, module._join_exited = populating, joining


def granian(module: Any) -> None:
    """Instrument what granian's workers wrap."""
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


def daphne(module: Any) -> None:
    """Instrument what daphne serves."""
    init = module.Server.__init__

    @functools.wraps(init)
    def initialising(self: Any, application: Any, *args: Any, **kwargs: Any) -> None:
        init(self, instrumented(application), *args, **kwargs)

    module.Server.__init__ = initialising
