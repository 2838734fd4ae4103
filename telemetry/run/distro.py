"""Entry points for `opentelemetry-instrument COMMAND`: it gives what `telemetry run` gives."""

from __future__ import annotations

import os
import sys
from typing import Any

# The module says `type: ignore` at its top, so mypy sees nothing in it.
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

from telemetry.errors import TelemetryError
from telemetry.run import run_folder
from telemetry.run.site import telemetry_hooks


class Distro(BaseDistro):
    """Hooks the ASGI servers, and keeps opentelemetry-instrumentation-asgi's own metrics and
    that of the frameworks built on it away: a request is counted once."""

    def _configure(self, **kwargs: Any) -> None:
        disabled = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
        ours = "asgi,starlette,fastapi"
        os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = ",".join(
            filter(None, (disabled, ours))
        )


class Configurator:
    """Starts nothing yet: the pipeline starts with the app, in the worker that serves it."""

    def configure(self, **kwargs: Any) -> None:
        try:
            run_folder.begin_own()
        except TelemetryError as error:
            # The app runs on without us, rather than with a traceback of the loader's.
            print(f"telemetry: not instrumented: {error.message}", file=sys.stderr)
            return
        telemetry_hooks.install()
