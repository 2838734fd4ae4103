"""``telemetry gateway``: serve the gateway until it is stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from telemetry.errors import TelemetryError
from telemetry.services import serve
from telemetry.services.prompts import keep_out_of_logs
from telemetry.system.arguments import Parser, port_number
from telemetry.system.console_log import log_to_console

# Time for running API calls to finish. Connections of the web shell are closed at once; their
# answers, and API calls that are left, then get app.GRACE_S more.
GRACE_S = 15
MESSAGE_BYTES = 1 << 20


def parser() -> Parser:
    """The service's own command line."""
    parser = Parser(
        prog="telemetry gateway", description="Run the gateway: web shell, queue and assistant."
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=port_number, help="port (default: TELEMETRY_GATEWAY_PORT or 4000)"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the gateway; returns the exit code.

    One process is enough: a model call takes seconds, but little CPU. Sessions, the queue and
    the shells' connections are in its memory.

    Raises:
        TelemetryError: a setting is invalid, or the port is in use.
    """
    import uvicorn

    from telemetry.services.gateway.app import create_app
    from telemetry.services.gateway.settings import Settings

    args = parser().parse_args(argv)
    settings = Settings.from_env(os.environ)
    settings = replace(settings, hosts=(*settings.hosts, args.host.lower()))
    port = args.port or settings.port
    log_to_console()
    if not settings.prompts:
        keep_out_of_logs()
    config = serve.config(
        create_app(settings),
        host=args.host,
        port=port,
        log_config=None,
        ws_max_size=MESSAGE_BYTES,
        timeout_graceful_shutdown=GRACE_S,
    )
    try:
        listener = config.bind_socket()
    except SystemExit:  # uvicorn has logged the reason
        raise TelemetryError(
            f"the gateway can't listen on {args.host}:{port}",
            remedy="stop the program on that port, or set TELEMETRY_GATEWAY_PORT to a free one",
            exit_code=69,  # EX_UNAVAILABLE
        ) from None
    serve.raise_file_limit()
    serve.stop_on_sigterm()
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    return 0 if server.started else 1
