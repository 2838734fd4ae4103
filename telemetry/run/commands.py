"""The commands `telemetry run app:app` and `telemetry run -- COMMAND …`."""

from __future__ import annotations

import argparse
import os
from typing import Any

EPILOG = """\
examples:
  telemetry run app:app
  telemetry run app:app --port 8001 --workers 4
  telemetry run -- uvicorn app:app --workers 4
  telemetry run -- gunicorn -k uvicorn_worker.UvicornWorker app:app
  telemetry run -- hypercorn app:app

Configured by the standard OTEL_* variables: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_METRIC_EXPORT_INTERVAL, OTEL_SDK_DISABLED, …
"""


def add_commands(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "run",
        help="run and instrument an unchanged ASGI app",
        description="Run an ASGI server with an app, both unchanged. Adds metrics, logs with trace "
        "context, /metrics and OTLP export.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="app:app [uvicorn's options] | -- COMMAND …",
        help="an app, served by uvicorn with its options, or a server's command after --",
    )
    p.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from telemetry.run import parent
    from telemetry.settings import credentials, otlp_token
    from telemetry.settings.stack import OTLP_AUTH

    if OTLP_AUTH.read(os.environ) == "required":
        otlp_token.add(os.environ, credentials.APPS_TOKEN)
    return parent.run(args.rest, os.environ)
