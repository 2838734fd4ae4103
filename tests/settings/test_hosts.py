"""Further host names of the services."""

from __future__ import annotations

import pytest

from telemetry.errors import ConfigError
from telemetry.settings.hosts import HOSTS


def test_hosts_are_names_in_lower_case() -> None:
    given = " Monitor.example  [2001:DB8::1] gateway 192.0.2.1\n"
    expected = ("monitor.example", "[2001:db8::1]", "gateway", "192.0.2.1")
    assert HOSTS.read({"TELEMETRY_HOSTS": given}) == expected
    assert HOSTS.read({}) == HOSTS.read({"TELEMETRY_HOSTS": " "}) == ()


@pytest.mark.parametrize("text", ["a:80", "http://a", "a,b", "*", "a/b", "2001:db8::1", "[x]"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="TELEMETRY_HOSTS"):
        HOSTS.read({"TELEMETRY_HOSTS": text})
