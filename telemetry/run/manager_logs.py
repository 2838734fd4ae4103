"""What the process logs that starts workers and serves nothing itself: that one was killed, or
did not come up, and what for. It has no app, so no pipeline starts there."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any


def logged(run: Callable[..., Any]) -> Callable[..., Any]:
    """``run``, a server's loop that minds its workers, with its logs exported meanwhile."""

    @functools.wraps(run)
    def running(*args: Any, **kwargs: Any) -> Any:
        with _exported():
            return run(*args, **kwargs)

    return running


@contextlib.contextmanager
def _exported() -> Iterator[None]:
    from opentelemetry.sdk.resources import Resource

    from telemetry import TelemetryError
    from telemetry.logs.pipeline import attach
    from telemetry.settings.library import Settings

    try:
        settings = Settings.from_env()
    except TelemetryError as error:
        print(f"telemetry: not instrumented: {error.message}", file=sys.stderr)
        yield
        return
    if settings.disabled or not settings.logs_exporters:
        yield
        return
    pipeline = attach(settings, Resource.create({"service.instance.id": str(uuid.uuid4())}))
    owner = os.getpid()
    # A forked worker logs by its own pipeline: this one's thread has not come with it.
    os.register_at_fork(after_in_child=pipeline.abandon)
    try:
        yield
    finally:
        if os.getpid() == owner:  # workers leave the loop by this way too
            pipeline.shutdown()
