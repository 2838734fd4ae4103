"""`telemetry up|down|status|restart|logs`: the stack on this machine."""

from __future__ import annotations

import argparse
import os
from typing import Any


def add_commands(subparsers: Any) -> None:
    p = subparsers.add_parser("up", help="start the whole stack on this machine")
    p.add_argument(
        "--engines",
        choices=("auto", "release", "go", "path"),
        default="auto",
        help="where engines may come from: PATH or the cache, official releases, a build with "
        "Go; auto tries them in this order",
    )
    p.add_argument(
        "--no-services", action="store_true", help="only the engines: no gateway, platform, proxy"
    )
    p.set_defaults(run=_up)
    p = subparsers.add_parser("down", help="stop the stack; what was accepted is not lost")
    p.set_defaults(run=_down)
    p = subparsers.add_parser("status", help="what runs, where, since when")
    p.set_defaults(run=_status)
    p = subparsers.add_parser("restart", help="restart engines or services")
    p.add_argument("names", nargs="*", metavar="NAME", help="which; all if none is named")
    p.set_defaults(run=_restart)
    p = subparsers.add_parser("logs", help="what the stack's processes print")
    p.add_argument("name", nargs="?", default="", metavar="NAME", help="whose; all if not named")
    p.add_argument("-f", "--follow", action="store_true", help="go on as it comes")
    p.set_defaults(run=_logs)


def _up(args: argparse.Namespace) -> int:
    from telemetry.stack import up

    return up.up(os.environ, args.engines, with_services=not args.no_services)


def _down(args: argparse.Namespace) -> int:
    from telemetry.stack import up

    return up.down(os.environ)


def _status(args: argparse.Namespace) -> int:
    from telemetry.stack import show

    return show.status(os.environ)


def _restart(args: argparse.Namespace) -> int:
    from telemetry.stack import up

    return up.restart(os.environ, args.names)


def _logs(args: argparse.Namespace) -> int:
    from telemetry.stack import up

    return up.show_logs(os.environ, args.name, args.follow)
