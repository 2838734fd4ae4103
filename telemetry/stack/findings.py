"""What the checks of `telemetry doctor` find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from telemetry.settings.stack import StackSettings
from telemetry.stack.state_folder import StateFolder

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        about: the part that was checked.
        state: ``ok``, ``note`` (for what may be intended, such as no Docker) or ``problem``.
        text: the result.
        remedy: what to do; "" if nothing.
    """

    about: str
    state: State
    text: str
    remedy: str = ""


Check = Callable[[StateFolder, StackSettings], Iterator[Finding]]
