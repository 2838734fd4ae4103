"""The engines these tests drive directly: found, fetched or built as `telemetry up` does it."""

from __future__ import annotations

import os
from functools import cache

from telemetry.settings.stack import StackSettings
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import ensure


@cache
def engine(name: str) -> str:
    """The path of an engine's program, or of its tool ``promtool``."""
    row = engines.table()["prometheus" if name == "promtool" else name]
    program = ensure.ensure(row, StackSettings.from_env(os.environ))
    if name == program.name:
        return str(program)
    return str(
        ensure.cached(row, StackSettings.from_env(os.environ), name) or program.with_name(name)
    )
