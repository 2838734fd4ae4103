"""``telemetry agent``: sample and watch the containers of a host that has no platform."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Sequence

from telemetry.system.arguments import Parser, whole_number
from telemetry.system.console_log import log_to_console

_log = logging.getLogger(__name__)


def parser() -> Parser:
    """The agent's own command line."""
    parser = Parser(
        prog="telemetry agent",
        description="Run the host agent: sample and watch the containers that have a handle.",
    )
    parser.add_argument(
        "--interval",
        type=whole_number(1, 3600),
        help="seconds between samples (default: TELEMETRY_PLATFORM_SAMPLE_INTERVAL or 15)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the host agent until it is stopped; returns the exit code.

    Every container with the Docker label ``handle`` is watched. The desired state of one that
    was seen running is running, until somebody stops or removes it.

    Raises:
        TelemetryError: a setting is invalid, or the state folder can't be written.
    """
    import telemetry
    from telemetry.services.platform.sampling import Monitor
    from telemetry.services.platform.settings import SAMPLE_INTERVAL
    from telemetry.services.platform.state.observed import ObservedState
    from telemetry.services.platform.state.store import Store
    from telemetry.settings.stack import HOME
    from telemetry.system.docker_engine import Engine

    args = parser().parse_args(argv)
    log_to_console()
    environ = dict(os.environ)
    if args.interval is not None:
        environ["TELEMETRY_PLATFORM_SAMPLE_INTERVAL"] = str(args.interval)
    interval_s = SAMPLE_INTERVAL.read(environ)
    engine, store = Engine(environ), Store(HOME.read(environ) / "agent.db")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    # The next process continues the series of this one, like a platform's.
    instance = {"service.instance.id": store.platform_id}
    pipeline = telemetry.start(service_name="agent", resource=instance)
    monitor = Monitor(engine, store, ObservedState(), interval_s=interval_s)
    monitor.start()
    print(
        f"watching the containers of {engine.address}, sampled every {interval_s} s, sent to "
        f"{pipeline.settings.otlp_endpoint}; stop with Ctrl-C",
        flush=True,
    )
    stopping.wait()
    monitor.stop()
    telemetry.shutdown()
    engine.close()
    store.close()
    return 0
