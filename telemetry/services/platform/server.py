"""``telemetry platform``: serve the platform until it is stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from telemetry.services import serve
from telemetry.system.arguments import Parser, port_number
from telemetry.system.console_log import log_to_console

# Time for requests in flight to finish. A longer one is interrupted, and undone or finished at the
# next start.
GRACE_S = 8


def parser() -> Parser:
    """The service's own command line."""
    parser = Parser(
        prog="telemetry platform", description="Run the platform: one container per user."
    )
    parser.add_argument(
        "--port", type=port_number, help="port (default: TELEMETRY_PLATFORM_PORT or 9000)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the platform; returns the exit code.

    A state folder's containers may have only one process that manages them.

    Raises:
        TelemetryError: a setting is invalid, or the desired state can't be opened.
    """
    import uvicorn

    from telemetry.services.platform.app import create_app
    from telemetry.services.platform.settings import Settings

    args = parser().parse_args(argv)
    log_to_console()
    settings = Settings.from_env(os.environ)
    settings = replace(settings, hosts=(*settings.hosts, args.host.lower()))
    serve.raise_file_limit()  # before the relay computes how many connections it may have
    serve.stop_on_sigterm()
    server = uvicorn.Server(
        serve.config(
            create_app(settings),
            host=args.host,
            port=args.port or settings.port,
            log_level="warning",
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    server.run()
    return 0 if server.started else 1
