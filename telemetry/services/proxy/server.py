"""``telemetry proxy``: serve the proxy on loopback until it is stopped."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from telemetry.errors import TelemetryError
from telemetry.services import serve
from telemetry.services.proxy.settings import Settings
from telemetry.system.arguments import Parser, port_number, whole_number

GRACE_S = 30  # for calls in flight to finish after a stop signal


def parser() -> Parser:
    """Return the parser of the service's own command line."""
    parser = Parser(prog="telemetry proxy", description="Run the proxy: metered model calls.")
    parser.add_argument(
        "--port", type=port_number, help="port (default: TELEMETRY_PROXY_PORT or 8080)"
    )
    parser.add_argument(
        "--workers",
        type=whole_number(1, 1000),
        default=1,
        help="processes that share one ledger (default: 1)",
    )
    parser.add_argument(
        "--host",
        action="append",
        help="address to listen on, repeatable (default: 127.0.0.1)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the proxy; returns the exit code.

    Raises:
        TelemetryError: a setting is invalid, the port is taken or the ledger can't be opened.
    """
    from telemetry.settings import credentials

    args = parser().parse_args(argv)
    settings = Settings.from_env(os.environ)
    port = args.port or settings.port
    # Workers read their settings from the environment again.
    secrets = credentials.ensure(settings.home, os.environ)
    os.environ.setdefault("TELEMETRY_ADMIN_TOKEN", secrets["TELEMETRY_ADMIN_TOKEN"])
    os.environ["TELEMETRY_PROXY_PORT"] = str(port)
    # An address with colons is known to the guard as the one that a connection arrives at.
    names = [host.lower() for host in args.host or () if ":" not in host]
    os.environ["TELEMETRY_HOSTS"] = " ".join((*settings.hosts, *names))
    _check(settings)
    return _serve(args.host or ["127.0.0.1"], port, args.workers)


def _check(settings: Settings) -> None:
    """Check the ledger and the price file, to fail with one message instead of one per worker."""
    from telemetry.services.proxy.ledger.migrations import open_ledger
    from telemetry.services.proxy.ledger.stores import parse_url
    from telemetry.services.proxy.pricing.prices import read_overrides

    open_ledger(parse_url(settings.ledger_url)).dispose()
    if settings.prices is not None:
        read_overrides(settings.prices)


def _serve(hosts: Sequence[str], port: int, workers: int) -> int:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    config = serve.config(
        "telemetry.services.proxy.app:from_env",
        factory=True,
        workers=workers,
        loop="uvloop",
        timeout_graceful_shutdown=GRACE_S,
    )
    sockets = [_bind(host, port) for host in hosts]
    serve.raise_file_limit()
    serve.stop_on_sigterm()
    server = uvicorn.Server(config)
    if workers > 1:
        with _run_folder():
            Multiprocess(config, sockets=sockets).run()
        return 0
    server.run(sockets=sockets)
    return 0 if server.started else 1


@contextmanager
def _run_folder() -> Iterator[None]:
    """Make a run folder for the workers' counts: any worker can report totals for all, including
    killed ones.
    """
    if os.environ.get("TELEMETRY_RUN_DIR"):
        yield  # the parent process created it and will remove it
        return
    from telemetry.run.adopt import adopt

    folder = Path(tempfile.mkdtemp(prefix="telemetry-proxy-"))
    os.environ["TELEMETRY_RUN_DIR"] = str(folder)
    try:
        yield
        adopt(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise TelemetryError(
            f"the proxy can't listen on {host}:{port}: {error.strerror}",
            remedy="stop what uses the port, or set TELEMETRY_PROXY_PORT to a free one",
            exit_code=69,  # EX_UNAVAILABLE
        ) from error
    found.set_inheritable(True)
    return found
