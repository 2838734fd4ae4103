"""Tables in a terminal, in one style."""

from __future__ import annotations

from collections.abc import Collection

from rich.table import Table


def plain_table(*columns: str, numbers: Collection[str] = (), whole: bool = False) -> Table:
    """Make a table without lines.

    Args:
        columns: their headings.
        numbers: which of them hold numbers, and are aligned to the right.
        whole: whether a cell that is too long is cut; else it continues in the next line.
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
