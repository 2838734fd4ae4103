"""Hooks into ASGI servers that instrument the loaded app.

`telemetry_hooks` calls each with a module of the server, right after its import.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Iterator
from typing import Any


def instrument_once(app: Any) -> Any:
    """Instrument ``app``, unless it is instrumented already below the server's own middleware.

    If a setting can't be used, print that and return ``app``.
    """
    try:
        import telemetry
        from telemetry.asgi.middleware import TelemetryMiddleware
    except ImportError as error:  # an interpreter without the packages that we need
        print(f"telemetry: not instrumented, {error} ({sys.executable})", file=sys.stderr)
        return app

    inner, seen = app, 0
    while inner is not None and seen < 10:  # servers add two or three layers
        if isinstance(inner, TelemetryMiddleware):
            return app
        inner, seen = vars(inner).get("app") if hasattr(inner, "__dict__") else None, seen + 1
    try:
        return telemetry.instrument(app)
    except telemetry.TelemetryError as error:
        print(f"telemetry: not instrumented: {error.message}", file=sys.stderr)
        return app


def uvicorn_config(module: Any) -> None:
    """Instrument the app that uvicorn loads, or report why it can't be loaded."""
    # Both uvicorn and gunicorn with uvicorn's worker call Config.load. It detects the interface
    # and adds its own middleware first; ours goes around all of that.
    load = module.Config.load

    @functools.wraps(load)
    def loading(self: Any) -> None:
        with _reporting_failure(self.app):
            load(self)
        if self.interface != "wsgi":
            self.loaded_app = instrument_once(self.loaded_app)

    module.Config.load = loading
    load_app = getattr(module.Config, "load_app", None)
    if load_app is not None:  # newer versions of `uvicorn.run` check the app by it before serving

        @functools.wraps(load_app)
        def loading_app(self: Any) -> Any:
            with _reporting_failure(self.app):
                return load_app(self)

        module.Config.load_app = loading_app


@contextlib.contextmanager
def _reporting_failure(app: Any) -> Iterator[None]:
    """Report to the parent of the run why an app given by name can't be loaded.

    An exception of its import is printed without the server's frames. Then the process exits with
    uvicorn's code for a failed start; otherwise uvicorn would restart its workers endlessly.
    """
    from telemetry.run import load_failure

    if not isinstance(app, str):
        yield
        return
    try:
        yield
    except load_failure.AppLoadFailed:  # already reported
        raise
    except SystemExit as error:
        load_failure.report_not_found(app, error)
        raise
    except Exception as error:
        raise load_failure.report_not_loaded(app, error) from None
    load_failure.clear()


def uvicorn_server(module: Any) -> None:
    """Export what is left after uvicorn has served its last request."""
    import asyncio  # uvicorn has imported it already; other programs may not need it

    serve = module.Server._serve

    @functools.wraps(serve)
    async def serving(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            await serve(self, *args, **kwargs)
        finally:
            # Next, uvicorn re-raises the signal that ended it, and the process dies without
            # running atexit. The end of the lifespan exports too, but not every app has one.
            await asyncio.to_thread(_finish)

    module.Server._serve = serving


def _finish() -> None:
    from telemetry import instrumentation
    from telemetry.run import run_folder

    pipeline = instrumentation.current_pipeline()
    if pipeline is not None:
        pipeline.finish()
    run_folder.end_own_run()


def uvicorn_manager(module: Any) -> None:
    """Export what uvicorn logs about its workers."""
    from telemetry.run import manager_logs

    module.Multiprocess.run = manager_logs.exporting_logs(module.Multiprocess.run)


def gunicorn_manager(module: Any) -> None:
    """Export what gunicorn logs about its workers."""
    from telemetry.run import manager_logs

    module.Arbiter.run = manager_logs.exporting_logs(module.Arbiter.run)


def gunicorn_asgi(module: Any) -> None:
    """Instrument the app that gunicorn's own ASGI worker loads."""
    load = module.ASGIWorker.load_wsgi

    @functools.wraps(load)
    def loading(self: Any) -> None:
        load(self)
        self.asgi = instrument_once(self.asgi)

    module.ASGIWorker.load_wsgi = loading


def hypercorn(module: Any) -> None:
    """Instrument the app that hypercorn wraps."""
    wrap_app = module.wrap_app

    @functools.wraps(wrap_app)
    def wrapping(app: Any, *args: Any, **kwargs: Any) -> Any:
        mode = kwargs.get("mode") or (args[1] if len(args) > 1 else None)
        if mode is None:
            mode = "asgi" if module.is_asgi(app) else "wsgi"
        return wrap_app(instrument_once(app) if mode == "asgi" else app, *args, **kwargs)

    module.wrap_app = wrapping


def hypercorn_manager(module: Any) -> None:
    """Let all of hypercorn's workers shut down.

    Once the first worker has exited, hypercorn terminates the others, before they have exported
    their last values and before the app has closed.
    """
    from telemetry.export.pipeline import FINISH_TIMEOUT_S

    if not hasattr(module, "_join_exited"):
        return  # another version, which may wait for its workers
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
            shutdown_event.set()  # hypercorn sets it next: one crashed worker ends them all
        if shutdown_event.is_set():
            deadline = time.monotonic() + config.graceful_timeout + FINISH_TIMEOUT_S
            for process in processes:
                process.join(max(0.0, deadline - time.monotonic()))
            code = code or int(join_exited(processes))
        return code

    module._populate, module._join_exited = populating, joining


def granian(module: Any) -> None:
    """Instrument the app that granian's workers wrap."""
    # Its workers get the loaded app, and wrap it once for requests and once for the lifespan.
    wrapper, init = module._callback_wrapper, module.LifespanProtocol.__init__

    @functools.wraps(wrapper)
    def wrapping(callback: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(instrument_once(callback), *args, **kwargs)

    @functools.wraps(init)
    def initialising(self: Any, callback: Any) -> None:
        init(self, instrument_once(callback))

    module._callback_wrapper = wrapping
    module.LifespanProtocol.__init__ = initialising


def daphne(module: Any) -> None:
    """Instrument the app that daphne serves."""
    init = module.Server.__init__

    @functools.wraps(init)
    def initialising(self: Any, application: Any, *args: Any, **kwargs: Any) -> None:
        init(self, instrument_once(application), *args, **kwargs)

    module.Server.__init__ = initialising
