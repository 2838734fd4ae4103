"""Settings as data: each field names its variable, what it takes, its default and its meaning.

    @dataclass(frozen=True)
    class Retention(Declared):
        days: int = setting("RETENTION_DAYS", whole_number(1, 3650), 15, "how long data is kept")

`Retention.from_env(environ)` reads and checks all of them; the tables in the documentation are
made of `Retention.settings()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar
from urllib.parse import urlsplit

from telemetry.errors import ConfigError, TelemetryError
from telemetry.redaction import redact
from telemetry.system.units import format_duration, parse_duration

T = TypeVar("T")
Environ = Mapping[str, str]
"""Variables by name, as `os.environ` holds them."""


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a variable may hold.

    Args:
        parse: its text to its value; raises ValueError.
        expected: what would be right, to be read after "is not".
        show: a value as it is written in the documentation.
        secret: never shown, in no error either.
    """

    parse: Callable[[str], T]
    expected: str
    show: Callable[[T], str] = str
    secret: bool = False


def _within(value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(value)


def whole_number(low: int, high: int) -> Kind[int]:
    """A whole number in a range."""

    def parse(text: str) -> int:
        value = int(text)
        _within(value, low, high)
        return value

    return Kind(parse, f"a whole number from {low} to {high}")


def number(low: float, high: float, expected: str) -> Kind[float]:
    """A number in a range, which ``expected`` words."""

    def parse(text: str) -> float:
        value = float(text)
        _within(value, low, high)
        return value

    return Kind(parse, expected, lambda value: f"{value:g}")


def milliseconds(low: int, high: int) -> Kind[float]:
    """Seconds that are written as whole milliseconds, in OpenTelemetry's way."""
    whole = whole_number(low, high)
    return Kind(lambda text: whole.parse(text) / 1000, whole.expected, lambda s: f"{s * 1000:g}")


def choice(*names: str) -> Kind[str]:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(text)
        return text

    return Kind(parse, " or ".join(names))


def _flag(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError(text)
    return text.lower() in ("1", "true", "yes", "on")


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(text)
    return text.rstrip("/")


TEXT = Kind(str, "a text")
SECRET = Kind(str, "a text", secret=True)
WORDS = Kind(lambda text: tuple(text.split()), "words with spaces between", " ".join)
PATH = Kind(lambda text: Path(text).expanduser().absolute(), "a path")
FLAG = Kind(_flag, "true or false", lambda value: str(value).lower())
DURATION = Kind(parse_duration, "a duration like 15s, 5m, 1h or 0", format_duration)
HTTP_URL = Kind(_http_url, "an address such as http://127.0.0.1:4318")


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One setting.

    Args:
        variable: of the environment.
        kind: what that may hold.
        default: where it is unset or empty.
        meaning: one sentence for the documentation, without a full stop.
        otherwise: gives the default from the other variables, where it depends on them.
        shown: the default in the documentation, where it is not ``default``.
    """

    variable: str
    kind: Kind[T]
    default: T
    meaning: str
    otherwise: Callable[[Environ], T] | None = None
    shown: str = ""

    def read(self, environ: Environ) -> T:
        """Its value.

        Raises:
            ConfigError: the variable holds something else.
        """
        text = environ.get(self.variable, "").strip()
        if not text:
            return self.otherwise(environ) if self.otherwise else self.default
        try:
            return self.kind.parse(text)
        except ValueError:
            value = "***" if self.kind.secret else redact(text)
            raise ConfigError(self.variable, value, self.kind.expected) from None

    @property
    def default_text(self) -> str:
        """The default as the documentation shows it; "" for none."""
        if self.shown or self.default is None:
            return self.shown
        return self.kind.show(self.default)


def setting(variable: str, kind: Kind[Any], default: Any, meaning: str, *, shown: str = "") -> Any:
    """A field of a `Declared`; the arguments are `Setting`'s."""
    return declared(Setting(variable, kind, default, meaning, shown=shown))


def declared(one: Setting[Any]) -> Any:
    """A field of a `Declared` that is declared elsewhere, since others read it too."""
    # By a factory: a default may be a mapping.
    return field(
        default_factory=lambda: one.default, repr=not one.kind.secret, metadata={"setting": one}
    )


def derived(find: Callable[[Environ], Any]) -> Any:
    """A field of a `Declared` that is no setting of its own: ``find`` makes it of all variables.
    Of an object that isn't made from the environment it is what no variable gives."""
    return field(default_factory=lambda: find({}), repr=False, metadata={"derived": find})


def declared_each(several: Mapping[str, Setting[Any]]) -> Any:
    """A field of a `Declared` that holds one value for each name."""
    return field(
        default_factory=lambda: {name: one.default for name, one in several.items()},
        metadata={"settings": several},
    )


@dataclass(frozen=True)
class Declared:
    """The base of objects whose fields are settings."""

    PREFIXES: ClassVar[tuple[str, ...]] = ()
    """A variable that begins so must be one of these settings, or `ELSEWHERE`."""
    ELSEWHERE: ClassVar[tuple[str, ...]] = ()
    DOCUMENTED: ClassVar[str] = "docs/"
    """Where the documentation lists them."""

    @classmethod
    def from_env(cls, environ: Environ) -> Self:
        """Read the environment; what is unset or empty keeps its default.

        Raises:
            ConfigError: a variable has a value that can't be used.
            TelemetryError: a variable with one of `PREFIXES` names no setting.
        """
        known = [*(one.variable for one in cls.settings()), *cls.ELSEWHERE]
        for name in sorted(environ):
            if cls.PREFIXES and name.startswith(cls.PREFIXES) and name not in known:
                import difflib

                near = difflib.get_close_matches(name, known, n=1)
                raise TelemetryError(
                    f"{name} is not a setting",
                    remedy=f"did you mean {near[0]}?" if near else f"{cls.DOCUMENTED} lists them",
                    exit_code=78,  # EX_CONFIG
                )
        found: dict[str, Any] = {}
        for each in fields(cls):
            if one := each.metadata.get("setting"):
                found[each.name] = one.read(environ)
            elif several := each.metadata.get("settings"):
                found[each.name] = {name: one.read(environ) for name, one in several.items()}
            elif find := each.metadata.get("derived"):
                found[each.name] = find(environ)
        return cls(**found)

    @classmethod
    def settings(cls) -> tuple[Setting[Any], ...]:
        """All of them, in the order of the fields."""
        found: list[Setting[Any]] = []
        for each in fields(cls):
            if one := each.metadata.get("setting"):
                found.append(one)
            found += each.metadata.get("settings", {}).values()
        return tuple(found)

    def given(self) -> dict[str, Any]:
        """What differs from its default, by the variables' names."""
        values = ((each.metadata.get("setting"), getattr(self, each.name)) for each in fields(self))
        return {one.variable: value for one, value in values if one and value != one.default}
