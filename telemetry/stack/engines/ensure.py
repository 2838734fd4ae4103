"""Find an engine's program, or fetch or build it.

The sources, in order: TELEMETRY_ENGINES (or the cache), PATH, the official release with its
checksum, a build with Go from pinned modules. Each source that fails reports why.
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
from telemetry.stack.engines.engine import Engine, EngineError, Report, Source, ignore_progress


def find(engine: Engine, settings: StackSettings, report: Report = ignore_progress) -> Path | None:
    """Find the engine's program in the cache or on PATH; None if no version is suitable."""
    kept = cached(engine, settings)
    if kept is not None:
        return kept
    for command in engine.commands:
        found = shutil.which(command, path=settings.search_path)
        if found is None:
            continue
        version = read_version(Path(found))
        if version is None or _older(version, engine.oldest):
            report(f"{found} is version {version or 'unknown'}, older than {engine.oldest}")
            continue
        return Path(found)
    return None


def cached(engine: Engine, settings: StackSettings, program: str = "") -> Path | None:
    """Find a program of the engine in the cache: in the version's folder, or put there by hand."""
    program = program or engine.programs[0]
    base = settings.engines
    for path in (base / f"{engine.name}-{engine.version}" / program, base / program):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def ensure(
    engine: Engine,
    settings: StackSettings,
    source: Source = "auto",
    report: Report = ignore_progress,
) -> Path:
    """Return the engine's program; fetch or build it if it is missing.

    Args:
        engine: the engine.
        settings: the cache and PATH.
        source: ``auto`` tries all sources in order; otherwise the only source to use.
        report: called with the progress, and with the reason when a source fails.

    Raises:
        EngineError: every source failed; the message says why each did.
    """
    if source in ("auto", "path"):
        found = find(engine, settings, report)
        if found is not None:
            return found
    target = settings.engines / f"{engine.name}-{engine.version}"
    names = " or ".join(engine.commands)
    reasons = [] if source in ("release", "go") else [f"no suitable {names} on PATH"]
    if reasons:
        report(reasons[0])
    ways: dict[str, Callable[[], None]] = {
        "release": lambda: fetch.fetch(engine, target, settings, report),
        "go": lambda: build.build(engine, target, settings, report),
    }
    for way, run in ways.items():
        if source not in ("auto", way):
            continue
        try:
            run()
            return target / engine.programs[0]
        except EngineError as error:
            reasons.append(f"{way}: {error.message}")
            report(f"{way}: {error.message}")
    raise EngineError(
        f"{engine.name} {engine.version} is unavailable: " + "; ".join(reasons),
        remedy=f"connect to the internet, install Go 1.26 or later, or put {engine.programs[0]} "
        f"{engine.oldest} or later on PATH or into {settings.engines}",
    )


def installed_version(engine: Engine, program: Path, settings: StackSettings) -> str:
    """Return the version of a program: the pin if it is from our cache, else what it reports."""
    if program.is_relative_to(settings.engines / f"{engine.name}-{engine.version}"):
        return engine.version
    return read_version(program) or ""


def read_version(program: Path) -> str | None:
    """Run ``--version`` and return the version, e.g. ``3.16.0``; None if it reports none."""
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
