"""``telemetry alerts list | test | silence``."""

from __future__ import annotations

import argparse
import difflib
import getpass
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from telemetry.errors import UsageError
from telemetry.system.escapes import escape

if TYPE_CHECKING:
    from telemetry.alerting.rule import Rule
    from telemetry.alerting.thresholds import Thresholds
    from telemetry.settings.stack import StackSettings


MAX_SILENCE_DAYS = 3650


def add_commands(subparsers: Any) -> None:
    """Add ``alerts`` and its actions."""
    alerts = subparsers.add_parser("alerts", help="list alerts, send test notices, silence alerts")
    actions = alerts.add_subparsers(metavar="ACTION")

    listing = actions.add_parser("list", help="list the alert rules and their states")
    listing.set_defaults(run=_list)

    test = actions.add_parser("test", help="send a test notice through each configured channel")
    test.add_argument(
        "name", nargs="?", metavar="NAME", help="alert to imitate (default: a plain test notice)"
    )
    test.set_defaults(run=_test)

    silence = actions.add_parser("silence", help="silence an alert, or list the silences")
    silence.add_argument(
        "name", nargs="?", metavar="NAME", help="alert to silence (default: list silences)"
    )
    silence.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="silence only alerts with this label, e.g. handle=demo-1 (repeatable)",
    )
    silence.add_argument(
        "--for",
        dest="duration",
        default="2h",
        metavar="DURATION",
        help="how long, e.g. 30m, 2h, 1d (default: 2h)",
    )
    silence.add_argument(
        "--comment",
        default="silenced by telemetry alerts silence",
        help="reason, shown with the silence (default: silenced by telemetry alerts silence)",
    )
    silence.add_argument("--end", metavar="ID", help="end the silence with this id")
    silence.set_defaults(run=_silence)


def _settings() -> StackSettings:
    from telemetry.settings.stack import StackSettings

    return StackSettings.from_env(os.environ).with_secrets()


def _list(args: argparse.Namespace) -> int:
    from telemetry.alerting import rules_api, terminal

    states = rules_api.rule_states(_settings())
    terminal.print_rules(states, datetime.now(UTC))
    return 0


def _test(args: argparse.Namespace) -> int:
    from telemetry.alerting import AlertSettings, delivery, terminal

    settings = AlertSettings.from_env(_settings().child_env)
    channels = settings.channels
    rule = _rule(args.name, settings.thresholds) if args.name else None
    notice = delivery.test_notice(rule, settings.links)
    deliveries = delivery.send(notice, channels)
    delivery.resolve(notice, channels)
    terminal.print_deliveries(deliveries)
    return 0 if all(delivery.delivered for delivery in deliveries) else 1


def _silence(args: argparse.Namespace) -> int:
    from telemetry.alerting import rules_api, terminal
    from telemetry.alerting.thresholds import Thresholds
    from telemetry.system.units import parse_duration

    settings = _settings()
    if args.end:
        rules_api.end_silence(args.end, settings)
        print(f"ended {escape(args.end)}")
        return 0
    if not args.name and not args.label:
        terminal.print_silences(rules_api.silences(settings), datetime.now(UTC))
        return 0
    matchers = {"alertname": _rule(args.name, Thresholds()).name} if args.name else {}
    for label in args.label:
        name, sign, value = label.partition("=")
        if not (sign and name and value):
            raise UsageError(
                f"--label {label} is not NAME=VALUE", remedy="e.g. --label handle=demo-1"
            )
        matchers[name] = value
    try:
        duration = timedelta(seconds=parse_duration(args.duration))
    except (ValueError, OverflowError):
        duration = timedelta()
    if not timedelta() < duration <= timedelta(days=MAX_SILENCE_DAYS):
        raise UsageError(
            f"--for {args.duration} is not a duration of at most {MAX_SILENCE_DAYS} days",
            remedy="e.g. --for 2h",
        )
    identity = rules_api.silence(matchers, duration, args.comment, getpass.getuser(), settings)
    until = datetime.now().astimezone() + duration
    what = " ".join(f"{name}={value}" for name, value in matchers.items())
    print(f"silenced {escape(what)} until {until:%Y-%m-%d %H:%M}")
    print(
        f"  -> end it earlier: telemetry alerts silence --end {escape(identity)}", file=sys.stderr
    )
    return 0


def _rule(name: str, thresholds: Thresholds) -> Rule:
    from telemetry.alerting.rules import all_rules

    rules = {rule.name: rule for rule in all_rules(thresholds)}
    if name in rules:
        return rules[name]
    near = difflib.get_close_matches(name, rules, n=1, cutoff=0.4)
    raise UsageError(
        f"there is no alert {name}",
        remedy=f"did you mean {near[0]}?" if near else "`telemetry alerts list` lists them",
    )
