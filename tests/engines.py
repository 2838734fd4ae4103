"""The engines that tests run directly, found, fetched or built as by `telemetry up`.

Run `python -m tests.engines` before the tests to get all of them: the first build on a machine
takes longer than a test's time limit.
"""

from __future__ import annotations

import os
from functools import cache

from telemetry.settings.stack import StackSettings
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import ensure


@cache
def engine(name: str) -> str:
    """Return the path of an engine's program, or of its tool ``promtool``."""
    settings = StackSettings.from_env(os.environ)
    row = engines.table()["prometheus" if name == "promtool" else name]
    program = ensure.ensure(row, settings)
    if name == row.name:
        return str(program)
    return str(ensure.cached(row, settings, name) or program.with_name(name))


def main() -> None:
    """Get the engines that the stack needs; print each one's path, or why it is missing."""
    for name in engines.needed():
        try:
            print(f"{name}: {engine(name)}", flush=True)
        except engines.EngineError as error:
            print(error.message)


if __name__ == "__main__":
    main()
