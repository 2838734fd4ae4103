"""One style for all tables in a terminal."""

from __future__ import annotations

from collections.abc import Collection

from rich.table import Table


def plain_table(*columns: str, numbers: Collection[str] = (), whole: bool = False) -> Table:
    """Make a table without lines.

    Args:
        columns: column headings.
        numbers: columns of numbers, which are right-aligned.
        whole: truncate a cell that is too long, instead of wrapping it.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in numbers else "left",
            overflow="fold",
            no_wrap=whole,
        )
    return made
