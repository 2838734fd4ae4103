"""The terminal: the only module that makes rich's consoles, tables and styled texts.

Most of what commands print comes from outside: names of models and users, labels, log lines,
answers of other programs. None of it is markup, and none of it reaches the terminal as a control
character. Styles are given beside a text, never in it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.status import Status
from rich.table import Table
from rich.text import Text

from telemetry.system.escapes import escape, escape_lines

_UNLIMITED = 100_000  # characters in a line
_GAP = 2  # characters between columns


class Terminal(Console):
    """A console that prints text from outside as it is.

    Output to a pipe or a file is never wrapped, so that ids can be copied and lines be found.

    Args:
        stderr: print to stderr instead of stdout.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)
        if not self.is_terminal:
            self.width = _UNLIMITED

    def render_str(self, text: str, **options: Any) -> Text:
        """Make the text of a string that is printed or in a table's cell."""
        return super().render_str(escape_lines(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; a table that is too wide is continued in the next line, not cut."""
        super().print(*objects, **{"crop": False, **options})

    def status(self, status: Any, **options: Any) -> Status:
        """Show a status with a spinner; a string in it is text."""
        return super().status(styled(status) if isinstance(status, str) else status, **options)

    def heading(self, title: str) -> None:
        """Print a heading: a line across the terminal, or only the title."""
        if self.is_terminal:
            self.rule(styled(title))
        else:
            self.print(title)


class PlainTable(Table):
    """A table whose cells are text in one line."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of strings and styled texts."""
        shown = [styled(cell) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*shown, **options)
        for column, cell in zip(self.columns, shown, strict=True):
            if column.no_wrap:
                column.min_width = max(column.min_width or 0, cell.cell_len)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Otherwise rich cuts all columns alike if folding is not enough.
        least = sum((column.min_width or 0) + _GAP for column in self.columns) - _GAP
        wide = options.update(width=max(least, options.max_width))
        return super().__rich_console__(console, wide)


def plain_table(
    *columns: str,
    numbers: Collection[str] = (),
    folded: Collection[str] = (),
    total: Sequence[str] = (),
) -> PlainTable:
    """Make a table without lines.

    Args:
        columns: column headings.
        numbers: columns of numbers, which are right-aligned.
        folded: columns whose cells are folded if the terminal is too narrow. Others are whole: a
            part of an id or a number is useless.
        total: cells of a last row that is in bold; none by default.
    """
    made = PlainTable(
        box=None,
        pad_edge=False,
        padding=(0, _GAP, 0, 0),
        header_style="bold",
        footer_style="bold",
        show_footer=bool(total),
    )
    for column, footer in zip(columns, total or [""] * len(columns), strict=True):
        made.add_column(
            column,
            footer=styled(footer),
            justify="right" if column in numbers else "left",
            overflow="fold",
            no_wrap=column not in folded,
            min_width=max(len(column), len(footer)),
        )
    return made


def styled(*parts: str | tuple[str, str], lines: bool = False) -> Text:
    """Make a text of strings, or pairs of a string and its style.

    Args:
        parts: the strings.
        lines: keep tabs and line ends.
    """
    shown = escape_lines if lines else escape
    pairs = (part if isinstance(part, tuple) else (part, "") for part in parts)
    return Text.assemble(*((shown(text), style) for text, style in pairs))
