"""The commands `telemetry up|down|status|restart|logs|search|open|doctor`."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from telemetry.errors import UsageError
from telemetry.system.arguments import whole_number

if TYPE_CHECKING:
    from telemetry.settings.stack import StackSettings


def add_commands(subparsers: Any) -> None:
    p = subparsers.add_parser("up", help="start the whole stack on this machine")
    p.add_argument(
        "--engines",
        choices=("auto", "release", "go", "path"),
        default="auto",
        help="where to get engines: PATH or the cache, official releases, or a build with Go; auto "
        "tries them in this order (default: auto)",
    )
    p.add_argument(
        "--no-services", action="store_true", help="start no gateway, platform and proxy"
    )
    p.set_defaults(run=_up)
    p = subparsers.add_parser("down", help="stop the stack; accepted data is not lost")
    p.set_defaults(run=_down)
    p = subparsers.add_parser("status", help="show running processes, addresses and uptime")
    p.set_defaults(run=_status)
    p = subparsers.add_parser("restart", help="restart processes, one after the other")
    p.add_argument("names", nargs="*", metavar="NAME", help="processes to restart (default: all)")
    p.set_defaults(run=_restart)
    p = subparsers.add_parser("logs", help="show the output of the stack's processes")
    p.add_argument(
        "name",
        nargs="?",
        default="",
        metavar="NAME",
        help="process whose output to show (default: all)",
    )
    p.add_argument("-f", "--follow", action="store_true", help="follow the output")
    p.set_defaults(run=_logs)
    p = subparsers.add_parser("search", help="search the logs of all services and containers")
    p.add_argument("text", nargs="?", default="", help="words or a trace id (default: all lines)")
    p.add_argument("--service", default="", metavar="NAME", help="show only lines of this service")
    p.add_argument(
        "--handle", default="", metavar="HANDLE", help="show only lines of this container"
    )
    p.add_argument(
        "--level",
        default="",
        choices=("trace", "debug", "info", "warn", "error", "fatal"),
        help="show only lines of this level (default: all)",
    )
    p.add_argument(
        "--since", default="1h", metavar="DURATION", help="how far back, e.g. 15m, 2h (default: 1h)"
    )
    p.add_argument(
        "--limit",
        type=whole_number(1, 5000),
        default=100,
        metavar="N",
        help="show the newest N lines, at most 5000 (default: 100)",
    )
    p.set_defaults(run=_search)
    p = subparsers.add_parser("open", help="show the page of an engine in the browser")
    p.add_argument("name", choices=("prometheus", "alertmanager"), help="the engine")
    p.set_defaults(run=_open)
    p = subparsers.add_parser("doctor", help="find problems and say how to fix them")
    p.set_defaults(run=_doctor)


def _settings() -> StackSettings:
    from telemetry.settings.stack import StackSettings

    return StackSettings.from_env(os.environ)


def _up(args: argparse.Namespace) -> int:
    from telemetry.stack import up

    return up.up(_settings(), args.engines, with_services=not args.no_services)


def _down(args: argparse.Namespace) -> int:
    from telemetry.stack import up

    return up.down(_settings())


def _status(args: argparse.Namespace) -> int:
    from telemetry.stack import terminal

    return terminal.status(_settings())


def _restart(args: argparse.Namespace) -> int:
    from telemetry.stack import up

    return up.restart(_settings(), args.names)


def _logs(args: argparse.Namespace) -> int:
    from telemetry.stack.show_logs import show_logs

    return show_logs(_settings(), args.name, args.follow)


def _search(args: argparse.Namespace) -> int:
    from telemetry.stack.search import Search, search
    from telemetry.system.units import parse_duration

    try:
        since_s = parse_duration(args.since)
    except ValueError:
        since_s = 0
    if since_s <= 0:
        raise UsageError(f"--since {args.since} is not a duration", remedy="use e.g. --since 2h")
    settings = _settings()
    kept_days = settings.retention_days
    if since_s > kept_days * 86_400:
        raise UsageError(
            f"--since {args.since}: lines are kept for {kept_days} days",
            remedy=f"use at most --since {kept_days}d; TELEMETRY_RETENTION_DAYS keeps lines longer",
        )
    wanted = Search(args.text, args.service, args.handle, args.level, since_s, args.limit)
    return search(settings, wanted)


def _open(args: argparse.Namespace) -> int:
    from telemetry.stack.page import open_page

    return open_page(_settings(), args.name)


def _doctor(args: argparse.Namespace) -> int:
    from telemetry.stack.doctor import doctor

    return doctor()
