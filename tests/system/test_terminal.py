"""Tables in a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from telemetry.system.terminal import plain_table


def _printed(width: int, *, whole: bool = False) -> list[list[str]]:
    table = plain_table("NAME", "CALLS", numbers=("CALLS",), whole=whole)
    table.add_row("a-long-name", "7")
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return [line.split() for line in file.getvalue().splitlines()]


def test_long_cell_wraps() -> None:
    assert _printed(40) == [["NAME", "CALLS"], ["a-long-name", "7"]]
    assert _printed(14) == [["NAME", "CALLS"], ["a-long-", "7"], ["name"]]


def test_long_whole_cell_stays_in_one_line() -> None:
    assert len(_printed(14, whole=True)) == 2
