"""Find an engine's program, or fetch or build it.

In order: TELEMETRY_ENGINES (or the cache), PATH, the official release with its checksum, a
build with Go from pinned modules. Each step says why it moved on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from telemetry.settings.stack import StackSettings
from telemetry.stack.engines import build, fetch
from telemetry.stack.engines.engine import Engine, EngineError, Say, Source, say_nothing


def find(engine: Engine, settings: StackSettings, say: Say = say_nothing) -> Path | None:
    """The engine's program in the cache or on PATH, None where there is none that fits."""
    kept = cached(engine, settings)
    if kept is not None:
        return kept
    for command in engine.commands:
        found = shutil.which(command, path=settings.search_path)
        if found is None:
            continue
        version = version_of(Path(found))
        if version is None or _older(version, engine.oldest):
            say(f"{found} is version {version or 'unknown'}, older than {engine.oldest}")
            continue
        return Path(found)
    return None


def cached(engine: Engine, settings: StackSettings, program: str = "") -> Path | None:
    """A program of the engine in the cache: by version, or put there by hand."""
    program = program or engine.programs[0]
    base = settings.engines
    for path in (base / f"{engine.name}-{engine.version}" / program, base / program):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def ensure(
    engine: Engine, settings: StackSettings, source: Source = "auto", say: Say = say_nothing
) -> Path:
    """The engine's program; fetched or built where it isn't there yet.

    Args:
        engine: which.
        settings: where engines are kept and looked for.
        source: ``auto`` tries all in order; else the one way that is allowed.
        say: told why a step moved on, and how far work is.

    Raises:
        EngineError: no way led to it; says which were tried and why each failed.
    """
    if source in ("auto", "path"):
        found = find(engine, settings, say)
        if found is not None:
            return found
    target = settings.engines / f"{engine.name}-{engine.version}"
    names = " or ".join(engine.commands)
    reasons = [] if source in ("release", "go") else [f"no {names} that fits on PATH"]
    if reasons:
        say(reasons[0])
    ways: dict[str, Callable[[], None]] = {
        "release": lambda: fetch.fetch(engine, target, settings, say),
        "go": lambda: build.build(engine, target, settings, say),
    }
    for way, run in ways.items():
        if source not in ("auto", way):
            continue
        try:
            run()
            return target / engine.programs[0]
        except EngineError as error:
            reasons.append(f"{way}: {error.message}")
            say(f"{way}: {error.message}")
    raise EngineError(
        f"{engine.name} {engine.version} can't be had: " + "; ".join(reasons),
        remedy=f"connect to the internet, install Go 1.26 or later, or put {engine.programs[0]} "
        f"{engine.oldest} or later on PATH or into {settings.engines}",
    )


def pinned(engine: Engine, program: Path, settings: StackSettings) -> str:
    """The version of a program that was found: its pin where we put it there, else asked."""
    if program.is_relative_to(settings.engines / f"{engine.name}-{engine.version}"):
        return engine.version
    return version_of(program) or ""


def version_of(program: Path) -> str | None:
    """What the program says of its version, e.g. ``3.16.0``."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"version:? v?(\d+\.\d+(?:\.\d+)?)", done.stdout + done.stderr)
    return found[1] if found else None


def _older(version: str, than: str) -> bool:
    return [int(n) for n in version.split(".")] < [int(n) for n in than.split(".")]
