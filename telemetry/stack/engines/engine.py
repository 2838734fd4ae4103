"""The engines: which versions, and where each one's program is or comes from.

In order: TELEMETRY_ENGINES (or the cache), PATH, the official release with its checksum, a
build with Go from pinned modules. Each step says why it moved on.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings

Source = Literal["auto", "release", "go", "path"]


class Say(Protocol):
    """Told how work on an engine goes."""

    def __call__(self, text: str, done: float | None = None) -> None:
        """What happens now; ``done`` from 0 to 1 where that is known."""


def say_nothing(text: str, done: float | None = None) -> None:
    """For callers who only want the result or the error."""


FOLDER = Path(__file__).parent
_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class EngineError(TelemetryError):
    """An engine can't be had, or can't be had this way."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy, exit_code=69)  # EX_UNAVAILABLE


@dataclass(frozen=True)
class Engine:
    """One row of engines.toml; see the comments there."""

    name: str
    version: str
    oldest: str
    commands: tuple[str, ...]
    release: str
    checksums: tuple[str, ...]
    members: tuple[str, ...]
    packages: tuple[str, ...]
    image: str
    tools: tuple[str, ...] = ()
    tags: str = ""
    ldflags: str = ""

    @property
    def programs(self) -> tuple[str, ...]:
        """File names in the cache: the engine itself, then its tools."""
        return (self.commands[0], *self.tools)

    def fill(self, text: str) -> str:
        """``text`` with version, os and arch of this machine."""
        arch = _ARCH.get(platform.machine(), platform.machine())
        return text.format(version=self.version, os=platform.system().lower(), arch=arch)


def table() -> dict[str, Engine]:
    """All engines by name."""
    rows = tomllib.loads((FOLDER / "engines.toml").read_text())
    return {name: _engine(name, row) for name, row in rows.items()}


def _engine(name: str, row: dict[str, Any]) -> Engine:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
    return Engine(name=name, **values)


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
    from telemetry.stack.engines import build, fetch

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
