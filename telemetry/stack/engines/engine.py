"""The table of engines: one row of engines.toml for each."""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

from telemetry.errors import TelemetryError

Source = Literal["auto", "release", "go", "path"]


class Report(Protocol):
    """A callback for the progress of a download or build."""

    def __call__(self, text: str, done: float | None = None) -> None:
        """Report a step.

        Args:
            text: the current step.
            done: completed part, from 0 to 1; None if unknown.
        """


def ignore_progress(text: str, done: float | None = None) -> None:
    """Ignore progress, for callers that need only the result or the error."""


FOLDER = Path(__file__).parent
_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class EngineError(TelemetryError):
    """An engine is unavailable, or unavailable from one source."""

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
    ports: tuple[str, ...]
    arguments: tuple[str, ...]
    ready: str
    url: str
    env: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False
    evaluator: str = ""
    tier: int = 2
    grace_s: float = 10.0
    tools: tuple[str, ...] = ()
    tags: str = ""
    ldflags: str = ""

    @property
    def programs(self) -> tuple[str, ...]:
        """Return the file names in the cache: the engine itself, then its tools."""
        return (self.commands[0], *self.tools)

    def fill(self, text: str) -> str:
        """Fill in the engine's version and this machine's operating system and architecture."""
        arch = _ARCH.get(platform.machine(), platform.machine())
        return text.format(version=self.version, os=platform.system().lower(), arch=arch)


@cache
def table() -> Mapping[str, Engine]:
    """Return all engines by name."""
    rows = tomllib.loads((FOLDER / "engines.toml").read_text())
    return {name: _engine(name, row) for name, row in rows.items()}


def _engine(name: str, row: dict[str, Any]) -> Engine:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
    return Engine(name=name, **values)


def needed() -> tuple[str, ...]:
    """Return the names of the engines that the stack requires."""
    return tuple(name for name, engine in table().items() if not engine.optional)
