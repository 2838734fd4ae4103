"""Settings as data: each field declares its variable, kind, default and meaning.

    @dataclass(frozen=True)
    class Retention(Declared):
        days: int = setting("RETENTION_DAYS", whole_number(1, 3650), 15, "days to keep data")

`Retention.from_env(environ)` reads and checks all of them. The tables in the documentation are
generated from `Retention.settings()`.
"""

from __future__ import annotations

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
"""Environment variables by name, as in `os.environ`."""


@dataclass(frozen=True)
class Kind(Generic[T]):
    """The kind of value that a variable takes.

    Args:
        parse: convert the variable's text to the value; raises ValueError.
        expected: what is valid; completes a sentence that ends in "is not".
        show: format a value for the documentation.
        secret: the value is never shown, not even in errors.
    """

    parse: Callable[[str], T]
    expected: str
    show: Callable[[T], str] = str
    secret: bool = False


def _within(value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # nor is NaN
        raise ValueError(value)


def whole_number(low: int, high: int) -> Kind[int]:
    """Kind of a whole number in a range."""

    def parse(text: str) -> int:
        value = int(text)
        _within(value, low, high)
        return value

    return Kind(parse, f"a whole number from {low} to {high}")


def number(low: float, high: float, expected: str) -> Kind[float]:
    """Kind of a number in a range; ``expected`` describes it."""

    def parse(text: str) -> float:
        value = float(text)
        _within(value, low, high)
        return value

    return Kind(parse, expected, lambda value: f"{value:g}")


def milliseconds(low: int, high: int) -> Kind[float]:
    """Kind of a time in seconds whose variable holds whole milliseconds, as OpenTelemetry's do."""
    whole = whole_number(low, high)
    return Kind(lambda text: whole.parse(text) / 1000, whole.expected, lambda s: f"{s * 1000:g}")


def choice(*names: str) -> Kind[str]:
    """Kind of a word from a fixed set."""

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
WORDS = Kind(lambda text: tuple(text.split()), "words separated by spaces", " ".join)
PATH = Kind(lambda text: Path(text).expanduser().absolute(), "a path")
FLAG = Kind(_flag, "true or false", lambda value: str(value).lower())
DURATION = Kind(parse_duration, "a duration like 15s, 5m, 1h or 0", format_duration)
HTTP_URL = Kind(_http_url, "an address such as http://127.0.0.1:4318")


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One setting.

    Args:
        variable: name of the environment variable.
        kind: kind of value.
        default: value if the variable is unset or empty.
        meaning: noun phrase or short sentence for the documentation, without a full stop.
        otherwise: compute the default from other variables, if it depends on them.
        shown: the default as the documentation shows it, if that is not ``default``.
    """

    variable: str
    kind: Kind[T]
    default: T
    meaning: str
    otherwise: Callable[[Environ], T] | None = None
    shown: str = ""

    def read(self, environ: Environ) -> T:
        """Return the setting's value in this environment.

        Raises:
            ConfigError: the variable's value is invalid.
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
        """The default as the documentation shows it; "" if there is no default."""
        if self.shown or self.default is None:
            return self.shown
        return self.kind.show(self.default)


def setting(variable: str, kind: Kind[Any], default: Any, meaning: str, *, shown: str = "") -> Any:
    """Declare a setting as a field of a `Declared`; the arguments are `Setting`'s."""
    return declared(Setting(variable, kind, default, meaning, shown=shown))


def declared(one: Setting[Any]) -> Any:
    """Make a field of a `Declared` from a setting that several classes share."""
    # With a factory: a default may be a mapping.
    return field(
        default_factory=lambda: one.default, repr=not one.kind.secret, metadata={"setting": one}
    )


def derived(find: Callable[[Environ], Any]) -> Any:
    """Make a field of a `Declared` that ``find`` computes from all variables.

    An object that isn't read from the environment gets the value for an empty environment.
    """
    return field(default_factory=lambda: find({}), repr=False, metadata={"derived": find})


def declared_each(several: Mapping[str, Setting[Any]]) -> Any:
    """Make a field of a `Declared` that holds several settings' values by name."""
    return field(
        default_factory=lambda: {name: one.default for name, one in several.items()},
        metadata={"settings": several},
    )


@dataclass(frozen=True)
class Declared:
    """Base of classes whose fields are settings."""

    PREFIXES: ClassVar[tuple[str, ...]] = ()
    """Prefixes of which all variables must be known: a field here, or listed in `ELSEWHERE`."""
    ELSEWHERE: ClassVar[tuple[str, ...]] = ()
    """Variables with such a prefix that another class reads."""
    DOCUMENTED: ClassVar[str] = "docs/"
    """The page that lists them."""

    @classmethod
    def from_env(cls, environ: Environ) -> Self:
        """Read the environment; unset and empty variables keep their defaults.

        Raises:
            ConfigError: a variable's value is invalid.
            TelemetryError: a variable with one of `PREFIXES` is not a setting.
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
        """All settings, in the order of the fields."""
        found: list[Setting[Any]] = []
        for each in fields(cls):
            if one := each.metadata.get("setting"):
                found.append(one)
            found += each.metadata.get("settings", {}).values()
        return tuple(found)

    def given(self) -> dict[str, Any]:
        """Values that differ from their defaults, by variable."""
        values = ((each.metadata.get("setting"), getattr(self, each.name)) for each in fields(self))
        return {one.variable: value for one, value in values if one and value != one.default}
