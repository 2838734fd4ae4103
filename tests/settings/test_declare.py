"""Settings declared as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from telemetry.errors import ConfigError, TelemetryError
from telemetry.settings import declare
from telemetry.settings.declare import Declared, Kind, Setting, declared, declared_each, setting

SIZE = Setting("SIZE", declare.whole_number(1, 10), 3, "how large")
HALF = Setting(
    "HALF",
    declare.whole_number(0, 10),
    1,
    "half of it",
    otherwise=lambda environ: SIZE.read(environ) // 2,
    shown="half of SIZE",
)


@dataclass(frozen=True)
class Example(Declared):
    PREFIXES: ClassVar[tuple[str, ...]] = ("EXAMPLE_",)
    ELSEWHERE: ClassVar[tuple[str, ...]] = ("EXAMPLE_OF_OTHERS",)
    DOCUMENTED: ClassVar[str] = "docs/example.md"

    size: int = declared(SIZE)
    half: int = declared(HALF)
    token: str = setting("EXAMPLE_TOKEN", declare.SECRET, "", "a secret")
    wait_s: float = setting("EXAMPLE_WAIT", declare.milliseconds(1, 60_000), 1.5, "how long")
    each: Mapping[str, int] = declared_each({"size": SIZE})
    here: str = "not a setting"


def test_unset_and_empty_variables_keep_the_defaults() -> None:
    assert Example.from_env({}) == Example.from_env({"SIZE": " ", "EXAMPLE_WAIT": ""}) == Example()
    assert Example().each == {"size": 3}


def test_values_are_parsed_and_defaults_follow_other_variables() -> None:
    found = Example.from_env({"SIZE": "8", "EXAMPLE_WAIT": " 250 ", "EXAMPLE_TOKEN": "t"})
    assert found == Example(8, 4, "t", 0.25, {"size": 8})
    assert found.given() == {"SIZE": 8, "HALF": 4, "EXAMPLE_TOKEN": "t", "EXAMPLE_WAIT": 0.25}
    assert "'t'" not in repr(found)


def test_misspelt_variable_is_an_error_with_the_nearest_name() -> None:
    Example.from_env({"EXAMPLE_OF_OTHERS": "x", "ANOTHER": "y"})
    with pytest.raises(TelemetryError, match="EXAMPLE_WAITS is not a setting") as caught:
        Example.from_env({"EXAMPLE_WAITS": "1"})
    assert caught.value.remedy == "did you mean EXAMPLE_WAIT?"
    with pytest.raises(TelemetryError) as caught:
        Example.from_env({"EXAMPLE_" + 40 * "0": "1"})
    assert caught.value.remedy == "docs/example.md lists them"


def test_settings_are_listed_for_the_documentation() -> None:
    rows = [(one.variable, one.default_text, one.meaning) for one in Example.settings()]
    assert rows == [
        ("SIZE", "3", "how large"),
        ("HALF", "half of SIZE", "half of it"),
        ("EXAMPLE_TOKEN", "", "a secret"),
        ("EXAMPLE_WAIT", "1500", "how long"),
        ("SIZE", "3", "how large"),
    ]


@pytest.mark.parametrize(
    ("kind", "text", "value", "shown"),
    [
        (declare.FLAG, "Yes", True, "true"),
        (declare.FLAG, "off", False, "false"),
        (declare.FLAG, "FALSE", False, "false"),
        (declare.WORDS, "a  b", ("a", "b"), "a b"),
        (declare.PATH, "/a/b", Path("/a/b"), "/a/b"),
        (declare.DURATION, "1h", 3600, "1h"),
        (declare.HTTP_URL, "https://h:1/p/", "https://h:1/p", "https://h:1/p"),
        (declare.number(0, 1, "a share"), "0.50", 0.5, "0.5"),
        (declare.choice("a", "b"), "b", "b", "b"),
    ],
)
def test_kinds_parse_and_show(kind: Kind[Any], text: str, value: Any, shown: str) -> None:
    assert Setting("X", kind, None, "x").read({"X": text}) == value
    assert kind.show(value) == shown


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (declare.FLAG, "maybe", "true or false"),
        (declare.whole_number(1, 5), "6", "a whole number from 1 to 5"),
        (declare.whole_number(1, 5), "1.5", "a whole number from 1 to 5"),
        (declare.whole_number(1, 5), "9" * 400, "a whole number from 1 to 5"),
        (declare.milliseconds(1, 5), "0", "a whole number from 1 to 5"),
        (declare.number(0, 1, "a share"), "nan", "a share"),
        (declare.choice("a", "b"), "c", "a or b"),
        (declare.DURATION, "soon", "a duration like 15s, 5m, 1h or 0"),
        (declare.HTTP_URL, "ftp://h", "an address such as http://127.0.0.1:4318"),
    ],
)
def test_invalid_value_is_an_error_that_says_what_is_expected(
    kind: Kind[Any], text: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Setting("X", kind, None, "x").read({"X": text})
    assert caught.value.message == f"X={text!r} is not {expected}"


def test_secret_is_masked_in_errors() -> None:
    kind = Kind(int, "a number", secret=True)
    with pytest.raises(ConfigError, match=r"X='\*\*\*' is not a number"):
        Setting("X", kind, 0, "x").read({"X": "s3cret"})
