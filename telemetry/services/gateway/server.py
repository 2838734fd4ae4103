"""``telemetry gateway``: serve the gateway on loopback until told to stop."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence

GRACE_S = 25


def main(argv: Sequence[str]) -> int:
    """Run the gateway; returns the exit code.

    One process: sessions, the queue and the shells' connections live in its memory, and a
    model call takes seconds, not CPU.

    Raises:
        TelemetryError: a setting can't be used.
    """
    import uvicorn

    from telemetry.services.gateway.app import create_app
    from telemetry.services.gateway.settings import Settings

    parser = argparse.ArgumentParser(
        prog="telemetry gateway", description="Serve the web shell, dispatcher and kernel."
    )
    parser.add_argument("--port", type=int, help="port [TELEMETRY_GATEWAY_PORT or 4000]")
    args = parser.parse_args(argv)
    settings = Settings.from_env(os.environ)
    # uvicorn raises the signal again once all is done; a stop that was asked for is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host="127.0.0.1",
            port=args.port or settings.port,
            access_log=False,
            server_header=False,
            log_level="warning",
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    server.run()
    return 0 if server.started else 1
