"""Output of ``telemetry alerts``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from telemetry.alerting.delivery import Delivery
from telemetry.alerting.rules_api import RuleState, Silence
from telemetry.system.terminal import Terminal, plain_table, styled

_COLOURS = {"firing": "bold red", "failing": "bold magenta", "pending": "yellow", "ok": "green"}
_ORDER = ("firing", "failing", "pending", "ok")
_SWITCHES = {
    "e-mail": "TELEMETRY_ALERT_EMAIL_TO and TELEMETRY_SMTP_HOST",
    "Slack": "TELEMETRY_SLACK_WEBHOOK_URL",
    "Telegram": "TELEMETRY_TELEGRAM_BOT_TOKEN and TELEMETRY_TELEGRAM_CHAT_ID",
}


def age(since: datetime, now: datetime) -> str:
    """Format the time between ``since`` and ``now`` in its two largest units, e.g. ``2h 5m``."""
    seconds = int(abs((now - since).total_seconds()))
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, seconds = divmod(seconds, length)
        if amount:
            parts.append(f"{amount}{unit}")
    return " ".join(parts[:2]) or "0s"


def print_rules(states: Iterable[RuleState], now: datetime) -> None:
    """Print firing and pending alerts, then all rules."""
    console = Terminal()
    ordered = sorted(states, key=lambda state: (_ORDER.index(state.state), state.name))
    active = plain_table("ALERT", "STATE", "WHERE", "SINCE", "VALUE", folded=("WHERE", "VALUE"))
    for state in ordered:
        for instance in state.instances:
            word = "firing" if instance.firing else "pending"
            where = " ".join(f"{name}={value}" for name, value in sorted(instance.labels.items()))
            active.add_row(
                state.name,
                styled((word, _COLOURS[word])),
                where,
                age(instance.since, now),
                instance.value,
            )
    if active.row_count:
        console.print(active)
        console.print()
    rules = plain_table("RULE", "SEVERITY", "STATE", "EVALUATED BY", folded=("STATE",))
    for state in ordered:
        shown = styled((state.state, _COLOURS[state.state]), state.error and f": {state.error}")
        rules.add_row(state.name, state.severity, shown, state.evaluator)
    console.print(rules)


def print_deliveries(deliveries: Iterable[Delivery]) -> None:
    """Print each channel's answer, and how to switch on the other channels."""
    console = Terminal()
    table = plain_table("CHANNEL", "TO", "ANSWER", folded=("TO", "ANSWER"))
    sent = set()
    for delivery in deliveries:
        sent.add(delivery.channel)
        word, style = ("delivered", "green") if delivery.delivered else ("failed", "bold red")
        answer = styled((word, style), f": {delivery.answer}")
        table.add_row(delivery.channel, delivery.target, answer)
    console.print(table)
    for channel, switch in _SWITCHES.items():
        if channel not in sent:
            console.print(f"{channel} is off; set {switch}", style="dim")


def print_silences(silences: Iterable[Silence], now: datetime) -> None:
    """Print the silences."""
    console = Terminal()
    table = plain_table("SILENCED", "ENDS IN", "COMMENT", "ID", folded=("SILENCED", "COMMENT"))
    for silence in silences:
        table.add_row(
            " ".join(silence.matchers), age(silence.until, now), silence.comment, silence.id
        )
    console.print(table if table.row_count else "no silences")
