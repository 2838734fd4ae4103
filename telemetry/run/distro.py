"""Entry points that make `opentelemetry-instrument COMMAND` do the same as `telemetry run`."""

from __future__ import annotations

import os
import sys
from typing import Any

# The module has `type: ignore` at its top, so mypy finds no names in it.
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

from telemetry.errors import TelemetryError
from telemetry.run import run_folder
from telemetry.run.site import telemetry_hooks


class Distro(BaseDistro):
    """Disables opentelemetry-instrumentation-asgi and the frameworks' instrumentations that use
    it, so that a request is counted once."""

    def _configure(self, **kwargs: Any) -> None:
        disabled = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
        ours = "asgi,starlette,fastapi"
        os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = ",".join(
            filter(None, (disabled, ours))
        )


class Configurator:
    """Installs the hooks. The pipeline starts later, with the app, in the worker that serves it."""

    def configure(self, **kwargs: Any) -> None:
        try:
            run_folder.start_own_run()
        except TelemetryError as error:
            # Run the app uninstrumented. Raising would show a traceback of the loader.
            print(f"telemetry: not instrumented: {error.message}", file=sys.stderr)
            return
        telemetry_hooks.install()
