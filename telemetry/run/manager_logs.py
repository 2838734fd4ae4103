"""Export the logs of a server's manager: the process that starts workers and serves no requests.

It logs that a worker was killed or failed to start, and why. It has no app, so no pipeline starts
in it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any


def exporting_logs(run: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a manager's loop, so that its logs are exported while it runs."""

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
        settings = Settings.from_env(os.environ)
    except TelemetryError as error:
        print(f"telemetry: not instrumented: {error.message}", file=sys.stderr)
        yield
        return
    if settings.disabled or not settings.logs_exporters:
        yield
        return
    found = Resource.create({"service.instance.id": str(uuid.uuid4())})
    pipeline = attach(settings, Resource(settings.redactor.attributes(found.attributes)))
    owner = os.getpid()
    # A forked worker has its own pipeline: this one's thread does not exist in it.
    os.register_at_fork(after_in_child=pipeline.abandon)
    try:
        yield
    finally:
        if os.getpid() == owner:  # forked workers get here too
            pipeline.shutdown()
