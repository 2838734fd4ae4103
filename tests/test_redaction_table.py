"""The table of secrets: library and Collector mask the same texts, in linear time."""

from __future__ import annotations

import re
import re._parser as regex_parser  # type: ignore[import-not-found]
from collections.abc import Callable
from pathlib import Path

import pytest

from telemetry.redaction import collector, redact
from telemetry.redaction.patterns import NAMED, NAMED_AT, SECRET_ATTRIBUTE, SHAPES
from tests.secrets_corpus import ORDINARY, SECRETS

IDS = [name for name, *_ in SECRETS]


def _in_collector(text: str) -> str:
    """Mask as the Collector does. Python's engine reads RE2's expressions alike, except for the
    classes, which are ASCII in RE2, and the end of the text."""
    for pattern, mask in [(p, "****") for p in collector.WHOLE] + collector.KEEPING:
        text = re.sub(pattern.replace(r"\z", r"\Z"), mask, text, flags=re.ASCII)
    return text


@pytest.mark.parametrize("mask", [redact, _in_collector], ids=["library", "collector"])
@pytest.mark.parametrize(("name", "text", "secret"), SECRETS, ids=IDS)
def test_secret_is_masked_on_both_sides(
    mask: Callable[[str], str], name: str, text: str, secret: str
) -> None:
    masked = mask(text)
    assert secret not in masked
    assert text.split()[0].strip('{":') in masked, "the rest stays"
    assert mask(masked) == masked


@pytest.mark.parametrize("mask", [redact, _in_collector], ids=["library", "collector"])
@pytest.mark.parametrize("text", ORDINARY)
def test_similar_text_stays_on_both_sides(mask: Callable[[str], str], text: str) -> None:
    assert mask(text) == text


def _operators(pattern: str) -> set[str]:
    found = set()

    def walk(parsed: object) -> None:
        if isinstance(parsed, regex_parser.SubPattern):
            for operator, argument in parsed:
                found.add(str(operator))
                walk(argument)
        elif isinstance(parsed, (list, tuple)):
            for each in parsed:
                walk(each)

    walk(regex_parser.parse(pattern))
    return found


@pytest.mark.parametrize(
    "pattern", [p for one in (*SHAPES, *NAMED) for p, _ in one.in_collector], ids=lambda p: p[:40]
)
def test_expression_of_the_collector_is_one_of_re2(pattern: str) -> None:
    lacking = {"ASSERT", "ASSERT_NOT", "POSSESSIVE_REPEAT", "ATOMIC_GROUP", "GROUPREF"}
    assert not _operators(pattern.replace(r"\z", r"\Z")) & lacking
    # RE2 refuses larger repeats.
    assert all(int(n) <= 1000 for n in re.findall(r"\{\d*,(\d+)\}", pattern))


PATTERNS = [one.pattern for one in (*SHAPES, *NAMED)] + [NAMED_AT, SECRET_ATTRIBUTE]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p[:40])
def test_library_pattern_has_no_nested_unbounded_repeats(pattern: str) -> None:
    """A repeat within an unbounded one is bounded: time is not exponential in the text's length."""
    repeats = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")

    def check(parsed: object, within: bool) -> None:
        if isinstance(parsed, regex_parser.SubPattern):
            for operator, argument in parsed:
                unbounded = str(operator) in repeats and argument[1] == regex_parser.MAXREPEAT
                assert not (unbounded and within), pattern
                check(argument, within or unbounded)
        elif isinstance(parsed, (list, tuple)):
            for each in parsed:
                check(each, within)

    check(regex_parser.parse(pattern), False)


def test_committed_configuration_of_the_collector_is_the_rendered_one() -> None:
    config = (Path(__file__).parents[1] / "collector" / "config.yaml").read_text()
    assert collector.insert(config) == config, "run `nox -s render` and commit"


def test_configuration_without_generated_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="no generated part"):
        collector.insert("processors:\n")
