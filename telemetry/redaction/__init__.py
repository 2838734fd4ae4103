"""Mask secrets: keys, passwords, tokens, cookies, credentials in URLs.

In doubt a text is masked: a missing detail can be looked up, a leaked secret can't be taken back.
The patterns are in `patterns.py`, and the Collector's configuration is rendered from them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from telemetry.errors import ConfigError
from telemetry.redaction.patterns import (
    MASK,
    NAME_HINTS,
    NAMED,
    NAMED_AT,
    SECRET_ATTRIBUTE,
    SHAPES,
)

_HINTS = tuple(dict.fromkeys([*(h for one in SHAPES for h in one.hints), *NAME_HINTS]))
_SHAPES = tuple((one.hints, re.compile(one.pattern), one.mask) for one in SHAPES)
_NAMED = tuple((re.compile(one.pattern), one.mask) for one in NAMED)
_NAMED_AT = re.compile(NAMED_AT)
_SECRET_ATTRIBUTE = re.compile(SECRET_ATTRIBUTE)


class Redactor:
    """Masks secrets in texts and attributes.

    Args:
        extra: further regular expressions; their matches are masked.

    Raises:
        ConfigError: one of them is not a regular expression.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self._extra = [_compiled(pattern) for pattern in extra]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Redactor:
        """Create a redactor with the patterns of TELEMETRY_REDACT_PATTERNS, one per line.

        Raises:
            ConfigError: one of them is not a regular expression.
        """
        lines = environ.get("TELEMETRY_REDACT_PATTERNS", "").splitlines()
        return cls(line.strip() for line in lines if line.strip())

    def text(self, text: str) -> str:
        """Mask secrets in ``text``."""
        lower = text.lower()
        found = {hint for hint in _HINTS if hint in lower}
        if found:
            for hints, pattern, mask in _SHAPES:
                if not found.isdisjoint(hints):
                    text = pattern.sub(mask, text)
            if not found.isdisjoint(NAME_HINTS) and ("--" in lower or _NAMED_AT.search(lower)):
                for pattern, mask in _NAMED:
                    text = pattern.sub(mask, text)
        for pattern in self._extra:
            text = pattern.sub(MASK, text)
        return text

    def attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Mask attributes with secret names, and secrets in the texts of others."""
        return {key: self._value(key, value) for key, value in attributes.items()}

    def _value(self, key: str, value: Any) -> Any:
        if is_secret(key):
            return MASK
        if isinstance(value, str):
            return self.text(value)
        return self._items(value) if isinstance(value, (list, tuple)) else value

    def _items(self, values: Iterable[Any]) -> list[Any]:
        masked, before = [], ""
        for value in values:
            # The value of an option, in a list of arguments.
            masked.append(self._value(before if before.startswith("--") else "", value))
            before = value if isinstance(value, str) else ""
        return masked


@functools.lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Check whether ``name`` is the name of a secret, e.g. ``db.password``."""
    return _SECRET_ATTRIBUTE.match(name) is not None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            "TELEMETRY_REDACT_PATTERNS", pattern, f"a regular expression ({error})"
        ) from error


_default = Redactor()


def redact(text: str) -> str:
    """Mask secrets in ``text``, by the built-in patterns only."""
    return _default.text(text)
