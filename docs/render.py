"""Write the documentation's tables from the code: ``python -m docs.render``.

`nox -s render` runs it and a test compares, as with dashboards and alert rules. Pages that are
generated as a whole say so at their top; in the others a table is between two comments.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from telemetry import catalog, cli
from telemetry.alerting.rule import Rule
from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from telemetry.dashboards import PANELS
from telemetry.dashboards.inventory import dashboards
from telemetry.errors import EXIT_CODES
from telemetry.naming import label_name
from telemetry.services.commands import SERVICES

TOP = Path(__file__).resolve().parents[1]
GENERATED = "<!-- Generated from the code by `nox -s render`; don't edit it. -->"
END = "<!-- End of what is generated. -->"

_PREFIXES = ("gateway.", "platform.", "proxy.", "gen_ai.")
_UNITS = {"s": "seconds", "By": "bytes", "usd": "USD"}
# In a help text, at its end.
_DEFAULT = re.compile(r" \(default: ([^()]+)\)$")


def files() -> dict[str, str]:
    """Every page that the code writes, or writes a part of: path to content."""
    return {
        "docs/metrics.md": metrics(),
        "docs/commands.md": commands(),
        "docs/alerting.md": _between((TOP / "docs/alerting.md").read_text(), alerts()),
    }


def _between(page: str, table: str) -> str:
    before, rest = page.split(GENERATED + "\n")
    return f"{before}{GENERATED}\n\n{table}\n{END}{rest.partition(END)[2]}"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    padded = ([f" {cell} " if cell else " " for cell in line] for line in escaped)
    return "".join(f"|{'|'.join(line)}|\n" for line in padded)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


# --- metrics --------------------------------------------------------------------------------


def metrics() -> str:
    """The page of all metrics."""
    page = (
        f"# Metrics\n\n{GENERATED}\n\n"
        "Names and labels are those of Prometheus. A histogram also has the series `_bucket`,\n"
        "`_sum` and `_count`. Every series also carries the labels of its resource, such as\n"
        "`job`, `instance` and `handle`.\n"
    )
    for title, prefixes in (
        ("Every instrumented app", ()),
        ("Gateway", ("gateway.",)),
        ("Platform and agent", ("platform.",)),
        ("Proxy", ("proxy.", "gen_ai.")),
    ):
        page += f"\n## {title}\n\n{_metrics(prefixes)}"
    return page


def _metrics(prefixes: tuple[str, ...]) -> str:
    return _table(
        ("metric", "type", "unit", "labels", "meaning"),
        (
            (
                f"`{metric.prometheus}`",
                "gauge" if metric.kind == "updowncounter" else metric.kind,
                _UNITS.get(metric.unit, metric.unit.strip("{}").replace("_", " ")),
                _code(map(label_name, metric.attributes)),
                metric.description,
            )
            for metric in catalog.METRICS.values()
            if metric.name.startswith(prefixes or _PREFIXES) == bool(prefixes)
        ),
    )


# --- alerts ---------------------------------------------------------------------------------


def alerts() -> str:
    """The table of all alert rules with their default thresholds."""
    titles = {
        (model["uid"], panel["id"]): f"{model['title']}, *{panel['title']}*"
        for model in dashboards()
        for panel in model["panels"]
    }
    return _table(
        ("alert", "severity", "notice", "after", "one for each", "panel"),
        (
            (
                f"[{rule.name}](runbooks.md#{rule.name.lower()})",
                rule.severity,
                _summary(rule),
                _time(rule.for_s),
                _code(rule.labels),
                titles[PANELS[rule.panel]],
            )
            for rule in all_rules(Thresholds())
        ),
    )


def _time(seconds: int) -> str:
    if not seconds:
        return "at once"
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


def _summary(rule: Rule) -> str:
    """The summary, a Go template, with labels in italics."""
    always = re.sub(r"\{\{ with .*?\{\{ end \}\}", "", rule.summary)
    return re.sub(r'\{\{ (?:index \.Labels "|\.Labels\.)(\w+)"? \}\}', r"*\1*", always)


# --- command line ---------------------------------------------------------------------------


def commands() -> str:
    """The page of all commands and exit codes."""
    top = cli.parser()
    page = (
        f"# Commands\n\n{GENERATED}\n\n"
        "Every command shows its help with `--help`. Options can't be abbreviated.\n"
    )
    for command, parser, text in _commands(top):
        page += f"\n## {command}\n\n{_sentence(parser.description or text)}\n"
        rows = [_argument(action) for action in parser._actions if _shown(action)]
        if rows:
            page += "\n" + _table(("argument", "meaning", "default"), rows)
    codes = ((str(code), meaning) for code, meaning in EXIT_CODES.items())
    page += (
        "\n## Exit codes\n\n"
        "`telemetry run` otherwise exits with the server's own code, or with 128 plus the number\n"
        f"of the signal that ended the server.\n\n{_table(('code', 'meaning'), codes)}"
    )
    return page


def _commands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Every command that does something by itself: name, parser, its line in the help."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, below in action.choices.items():
            if name in SERVICES and parser.prog == "telemetry":
                # A service parses its own options.
                below = importlib.import_module(SERVICES[name][0]).parser()
            if below.get_default("run") or name in SERVICES:
                yield f"{parser.prog} {name}", below, texts[name]
            yield from _commands(below)


def _shown(action: argparse.Action) -> bool:
    return not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)


def _argument(action: argparse.Action) -> tuple[str, str, str]:
    metavar = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    if action.choices:
        metavar = action.dest.upper()
    names = action.option_strings or [""]
    meaning, default = action.help or "", ""
    if found := _DEFAULT.search(meaning):
        meaning, default = meaning[: found.start()], found[1]
    elif action.option_strings and action.default:
        default = str(action.default)
    if action.choices:
        meaning = "; ".join(filter(None, (meaning, f"one of {_code(map(str, action.choices))}")))
    return (
        ", ".join(f"`{name} {metavar}`".replace("` ", "`").replace(" `", "`") for name in names),
        meaning,
        default,
    )


if __name__ == "__main__":
    for name, text in files().items():
        (TOP / name).write_text(text)
        print(name)
