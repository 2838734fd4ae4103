"""The command line: help, suggestions, wrong use, and every command that the docs name."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry import cli
from telemetry.system.arguments import Parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "collector/README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, ...]]:
    """Yield every command with its parents."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield (name,)
                yield from ((name, *rest) for rest in commands(below))


COMMANDS = list(commands(cli.parser()))


@pytest.mark.parametrize("argv", [(), ("keys",), ("alerts",)])
def test_command_without_arguments_shows_its_help(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 0
    assert capsys.readouterr().out.startswith(f"usage: {' '.join(('telemetry', *argv))} ")


@pytest.mark.parametrize(
    ("argv", "remedy"),
    [
        (("statsu",), "did you mean `telemetry status`?"),
        (("keys", "creat"), "did you mean `telemetry keys create`?"),
        (("up", "--engines", "releases"), "did you mean `release`?"),
        (("xyzzy",), "see `telemetry --help`"),
        (("up", "--engines", "x"), "see `telemetry up --help`"),
        (("search", "--limit", "x"), "see `telemetry search --help`"),
        (("gateway", "--prot", "1"), "see `telemetry gateway --help`"),
        (("gateway", "--port", "99999"), "see `telemetry gateway --help`"),
        (("platform", "--port", "0"), "see `telemetry platform --help`"),
        (("proxy", "--port", "-1"), "see `telemetry proxy --help`"),
        (("proxy", "--workers", "0"), "see `telemetry proxy --help`"),
        (("agent", "--interval", "9" * 5000), "see `telemetry agent --help`"),
        (("demo", "--seconds", "0"), "see `telemetry demo --help`"),
        (("run", "--", "uvicorn", "app:app", "--port", "99999"), "use a port from 1 to 65535"),
        (("search", "--limit", "0"), "see `telemetry search --help`"),
        (("search", "--limit", "10000"), "see `telemetry search --help`"),
        (("search", "--since", "soon"), "use e.g. --since 2h"),
        (("search", "--since", "9" * 5000 + "d"), "use e.g. --since 2h"),
        (
            ("search", "--since", "400d"),
            "use at most --since 15d; TELEMETRY_RETENTION_DAYS keeps lines longer",
        ),
        (("alerts", "silence", "--label", "a=b", "--for", "99999999999d"), "e.g. --for 2h"),
        (("alerts", "silence", "--label", "a=b", "--for", "4000d"), "e.g. --for 2h"),
        (("search", "\udc9b"), "write it in UTF-8, or set the terminal and LANG to UTF-8"),
        (("costs", "--user", "\udc9b"), "write it in UTF-8, or set the terminal and LANG to UTF-8"),
    ],
)
def test_wrong_use_is_an_error_with_a_suggestion(
    argv: tuple[str, ...], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 64
    printed = capsys.readouterr()
    assert printed.out == ""
    [error, hint] = printed.err.splitlines()
    assert error.startswith("error: ")
    assert hint == f"  -> {remedy}"


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != ("run",)], ids=" ".join)
def test_unknown_option_is_an_error_of_every_command(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {
        "create": ["ann"],
        "revoke": ["id"],
        "budget": ["ann"],
        "open": ["prometheus"],
    }.get(command[-1], [])
    assert cli.main([*command, *arguments, "--no-such-option"]) == 64
    assert "--no-such-option" in capsys.readouterr().err


def test_options_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "budget", "ann", "--daily", "5"]) == 64
    assert "--daily" in capsys.readouterr().err


def documented() -> list[str]:
    """Return every command line in a page, in backticks or in a block."""
    found = set()
    for page in PAGES:
        text = page.read_text()
        found |= set(re.findall(r"`telemetry ([^`]+)`", text))
        found |= set(re.findall(r"^(?:\$ )?telemetry ([a-z][^\n#]*)", text, re.MULTILINE))
    # Leave out alternatives, which are not command lines.
    return sorted(c.strip() for c in found if "|" not in c)


def test_the_docs_name_commands() -> None:
    assert len(documented()) > 30


@pytest.mark.parametrize("line", documented())
def test_every_documented_command_parses(line: str) -> None:
    words = shlex.split(re.sub(r"\[[^\]]*\]|…", "", line))
    parser: Parser = cli.parser()
    args, unknown = parser.parse_known_args(words)
    assert hasattr(args, "rest") or not unknown
