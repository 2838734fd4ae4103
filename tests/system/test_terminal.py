"""Tables and texts in a terminal."""

from __future__ import annotations

import ast
import io
import logging
from pathlib import Path

import pytest
from rich.text import Text

import telemetry
from telemetry.system.console_log import log_to_console
from telemetry.system.escapes import escape, escape_lines, escape_output
from telemetry.system.terminal import Terminal, plain_table, styled

PACKAGE = Path(telemetry.__file__).parent
ID = "0b7e9a52-1f0c-4a38-9a31-5f1c1f0e7d11"
MARKUP = ("[/red]", "[bold]", "[link=http://evil]x", r"\[", "[/]", ":warning:", "nonsense[/x]")
CONTROLS = (
    "\x1b[2J",
    "\x1b]8;;http://evil\x1b\\x",
    "\x9b31m",
    "\x9d0;t\x9c",
    "\r",
    "\u202e",
    "\x00",
)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with 40 columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")


def _printed(*objects: object) -> list[str]:
    terminal = Terminal()
    terminal.file = io.StringIO()
    terminal.print(*objects)
    return Text.from_ansi(terminal.file.getvalue()).plain.splitlines()


@pytest.mark.usefixtures("narrow")
def test_only_named_columns_are_folded_in_a_narrow_terminal() -> None:
    table = plain_table("USER", "ID", folded=("USER",))
    table.add_row("a-name-that-is-too-long-for-this-terminal", ID)
    lines = _printed(table)
    assert ID in lines[1]
    assert "".join(line[:10].split(" ")[0] for line in lines[1:]).startswith("a-n")
    assert "…" not in "".join(lines)


@pytest.mark.usefixtures("narrow")
def test_table_without_room_is_continued_and_not_cut() -> None:
    table = plain_table("ID", "OTHER", "STATE")
    table.add_row(ID, ID, "ready")
    assert _printed(table)[1].split() == [ID, ID, "ready"]


def test_piped_output_is_never_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    table = plain_table("USER", "ID", folded=("USER",))
    table.add_row("u" * 300, ID)
    assert _printed(table)[1].split() == ["u" * 300, ID]
    assert _printed("word " * 100) == ["word " * 100]


@pytest.mark.parametrize("text", MARKUP)
def test_text_is_not_markup(text: str) -> None:
    table = plain_table("NAME", total=[text])
    table.add_row(text)
    table.add_row(styled((text, "bold")))
    lines = [line.strip() for line in _printed(table)]
    assert lines[1:] == [text, text, text]
    assert _printed(f"of {text}") == [f"of {text}"]
    assert _printed(styled("of ", (text, "red"))) == [f"of {text}"]


@pytest.mark.parametrize("text", CONTROLS)
def test_control_characters_are_escaped_everywhere(text: str) -> None:
    table = plain_table("NAME", total=[text])
    table.add_row(text)
    table.add_row(styled((text, "bold")))
    for printed in (table, text, styled(text)):
        terminal = Terminal()
        terminal.file = file = io.StringIO()
        terminal.print(printed)
        assert file.getvalue().replace("\n", "").isprintable()
        assert escape(text) in file.getvalue()


@pytest.mark.parametrize(
    ("text", "name", "lines", "output"),
    [
        ("plain", "plain", "plain", "plain"),
        ("a\tb\nc", r"a\tb\nc", "a\tb\nc", "a\tb\nc"),
        ("a\rb", r"a\rb", r"a\rb", r"a\rb"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2Jx", r"\x1b[2Jx", r"\x1b[2Jx", r"\x1b[2Jx"),
        ("\x1b\x1b[0m[2Jx", r"\x1b\x1b[0m[2Jx", r"\x1b\x1b[0m[2Jx", r"\x1b[2Jx"),
        ("\x9b2J", r"\x9b2J", r"\x9b2J", r"\x9b2J"),
        ("a\u202eb\u2066c\u2028", *[r"a\u202eb\u2066c\u2028"] * 3),
        ("raw \udc9b", *[r"raw \udc9b"] * 3),
        (r"C:\n [x]", *[r"C:\n [x]"] * 3),
        ("Grüße, 東京 👩‍👩‍👧", *["Grüße, 東京 👩‍👩‍👧"] * 3),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(
    text: str, name: str, lines: str, output: str
) -> None:
    assert (escape(text), escape_lines(text), escape_output(text)) == (name, lines, output)


def test_own_log_lines_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    root, file = logging.getLogger(), io.StringIO()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr("sys.stderr", file)
    log_to_console()
    logging.getLogger("telemetry.test").warning("of %s", "\x1b[2J\u202e")
    assert file.getvalue().endswith("WARNING telemetry.test: of \\x1b[2J\\u202e\n")


def test_only_the_terminal_module_makes_consoles_tables_and_texts() -> None:
    """Elsewhere a text from outside could be taken for markup."""
    makers = {"Console", "Table", "Text", "from_markup"}
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "system" / "terminal.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) in makers
        and "rich" in path.read_text()
    ]
    assert found == []
