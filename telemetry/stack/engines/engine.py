"""The engines as data: one row of engines.toml each, its version and where it comes from."""

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
        """File names in the cache: the engine itself, then its tools."""
        return (self.commands[0], *self.tools)

    def fill(self, text: str) -> str:
        """``text`` with version, os and arch of this machine."""
        arch = _ARCH.get(platform.machine(), platform.machine())
        return text.format(version=self.version, os=platform.system().lower(), arch=arch)


@cache
def table() -> Mapping[str, Engine]:
    """All engines by name."""
    rows = tomllib.loads((FOLDER / "engines.toml").read_text())
    return {name: _engine(name, row) for name, row in rows.items()}


def _engine(name: str, row: dict[str, Any]) -> Engine:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
    return Engine(name=name, **values)


def needed() -> tuple[str, ...]:
    """The names of the engines without which the stack does not run."""
    return tuple(name for name, engine in table().items() if not engine.optional)
