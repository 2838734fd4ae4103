"""The documented settings and those in the code are the same, both ways."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from telemetry.errors import ConfigError
from telemetry.services.proxy.settings import Settings

DOCS = Path(__file__).parents[2] / "docs" / "proxy.md"


class Asked(dict[str, str]):
    """An environment that notes what is looked up in it."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.keys_seen: set[str] = set()

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.keys_seen.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.keys_seen.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.keys_seen.add(str(key))
        return super().__contains__(key)


def documented() -> dict[str, str]:
    """Variables of the table with their defaults."""
    table = DOCS.read_text().partition("\n## Settings\n")[2]
    return dict(re.findall(r"^\| `([A-Z_]+)` \| ?([^|]*?) ?\|", table, re.M))


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    environ = Asked({"HOME": "/home/ann"})
    Settings.from_env(environ)
    assert environ.keys_seen - {"HOME", "XDG_STATE_HOME"} == set(documented())


def test_the_documented_defaults_are_the_codes() -> None:
    shown = documented()
    # What stands in the table as a plain value, given outright, changes nothing.
    given = {
        key: value
        for key, value in shown.items()
        if re.fullmatch(r"[0-9]+|drain|https://\S+", value)
    }
    assert len(given) == 11
    home = {"TELEMETRY_HOME": "/somewhere"}
    assert Settings.from_env(home | given) == Settings.from_env(home)
    default = Settings.from_env(home)
    assert default.ledger_url == shown["TELEMETRY_LEDGER_URL"].replace(
        "$TELEMETRY_HOME", "/somewhere"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TELEMETRY_PROXY_PORT", "0"),
        ("TELEMETRY_PROXY_CONNECT_TIMEOUT", "soon"),
        ("TELEMETRY_PROXY_READ_TIMEOUT", "0"),
        ("TELEMETRY_PROXY_TOTAL_TIMEOUT", "nan"),
        ("TELEMETRY_PROXY_RETRIES", "-1"),
        ("TELEMETRY_PROXY_ON_DISCONNECT", "panic"),
        ("TELEMETRY_PROXY_MAX_BODY", "1"),
        ("TELEMETRY_ANTHROPIC_URL", "api.anthropic.com"),
    ],
)
def test_a_bad_setting_is_named(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}.*{re.escape(value)}") as caught:
        Settings.from_env({"HOME": "/home/ann", key: value})
    assert caught.value.exit_code == 78
