"""The command `telemetry demo`."""

from __future__ import annotations

import argparse
import os
import signal
from typing import Any

from telemetry.system.arguments import whole_number


def add_commands(subparsers: Any) -> None:
    p = subparsers.add_parser(
        "demo",
        help="run the stack with sample traffic, simulated users and failing containers",
        description="Start the stack, run Datasette (a real app, unchanged) under traffic, let "
        "simulated users chat with a simulated model, kill a container, and show what "
        "Prometheus, Loki and the ledger recorded. The stack keeps running afterwards.",
    )
    p.add_argument(
        "--seconds",
        type=whole_number(5, 86_400),
        default=20,
        metavar="N",
        help="seconds of traffic (default: 20)",
    )
    p.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from telemetry.demo import show
    from telemetry.settings.stack import StackSettings

    # Treat SIGTERM as Ctrl-C, so that the demo stops the processes that it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return show.run(StackSettings.from_env(os.environ), args.seconds)
    except KeyboardInterrupt:
        print("\nInterrupted. The stack may still be running; stop it with `telemetry down`.")
        raise
