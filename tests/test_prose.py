"""Plain English: some words stay out of the documentation, the commands' help and the package.

They read like a word-by-word translation, or have two meanings. Each has a plain replacement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import render

ROOT = Path(__file__).parents[1]

# Pattern, and what to write.
WORDS = {
    r"anew": "again, or regenerate, restart",
    r"stands?(?! for)|stood(?! for)": "is, is stored",
    r"mend(?:s|ed|ing)?": "fix",
    r"(?-i:(?<!there )(?:is none|are none))": "is not one, there is no",
    r"(?:not|is) well": "unhealthy, healthy",
    r"(?:tell|tells|told) apart": "distinguish",
    r"whoever|nobody's": "a sentence with a subject",
    r"for ever|in vain": "forever, without result",
    r"a judgement": "chosen by judgement, not measured",
    r"be had": "is available",
    r"go on|goes on": "continue",
    r"meanwhile": "say when",
}
_ANY = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in WORDS), re.I)

# Text of a line that may have such a word, and the reason.
EXCEPTIONS: dict[str, str] = {}

FILES = [
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "bench/*.md", "collector/*.md", "telemetry/**/*.py")
    for path in sorted(ROOT.glob(pattern))
]


def found(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not any(allowed in line for allowed in EXCEPTIONS):
            yield from (f"{match[0]}: {line.strip()}" for match in _ANY.finditer(line))


@pytest.mark.parametrize("name", FILES)
def test_file_is_plain_english(name: str) -> None:
    assert list(found((ROOT / name).read_text())) == []


def test_help_of_every_command_is_plain_english() -> None:
    assert list(found(render.commands())) == []


def test_every_exception_is_used() -> None:
    text = "".join((ROOT / name).read_text() for name in FILES)
    assert [allowed for allowed in EXCEPTIONS if allowed not in text] == []
