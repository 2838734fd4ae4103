"""The command-line parser: no abbreviated options, and wrong use raises `UsageError`."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable
from typing import Any, NoReturn

from telemetry.errors import UsageError


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Make an argument's type: a whole number in a range."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{text[:80]} is not a whole number from {low} to {high}"
            )
        return value

    return parse


port_number = whole_number(1, 65535)
"""Type of an argument that is a TCP port."""


class Parser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` that raises an error instead of exiting.

    The parsed arguments have an attribute ``parser``: the parser of the given command.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviation that works today would be ambiguous, or mean another option, tomorrow.
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})
        self.set_defaults(parser=self)

    def error(self, message: str) -> NoReturn:
        """Raise the message that argparse would print.

        Raises:
            UsageError: always.
        """
        raise UsageError(message, remedy=f"see `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        near = difflib.get_close_matches(str(value), choices, n=1)
        if isinstance(action, argparse._SubParsersAction):
            message = f"there is no command `{self.prog} {value}`"
            meant = f"{self.prog} {near[0]}" if near else ""
        else:
            message = f"{'/'.join(action.option_strings)} {value}: expected {', '.join(choices)}"
            meant = near[0] if near else ""
        remedy = f"did you mean `{meant}`?" if meant else f"see `{self.prog} --help`"
        raise UsageError(message, remedy=remedy)
