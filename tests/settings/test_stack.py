"""The settings of the stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetry.errors import ConfigError
from telemetry.settings import credentials
from telemetry.settings.stack import PORTS, StackSettings, keep_loopback_direct


def test_defaults() -> None:
    settings = StackSettings.from_env({"HOME": "/h"})
    assert settings.home == Path("/h/.local/state/telemetry")
    assert settings.engines == Path("/h/.cache/telemetry/engines")
    assert settings.ports == PORTS
    assert settings.urls["prometheus"] == "https://127.0.0.1:9090"
    assert (settings.grafana, settings.evaluator, settings.retention_days) == (True, "", 15)


def test_address_follows_its_port_unless_it_is_set() -> None:
    settings = StackSettings.from_env(
        {"TELEMETRY_PROMETHEUS_PORT": "1", "TELEMETRY_LOKI_URL": "https://loki/"}
    )
    assert settings.urls["prometheus"] == "https://127.0.0.1:1"
    assert settings.urls["loki"] == "https://loki"


def test_state_folder_is_telemetry_home_or_below_xdg_state_home() -> None:
    assert StackSettings.from_env({"TELEMETRY_HOME": "/x"}).home == Path("/x")
    xdg = StackSettings.from_env({"XDG_STATE_HOME": "/y", "XDG_CACHE_HOME": "/z"})
    assert (xdg.home, xdg.engines) == (Path("/y/telemetry"), Path("/z/telemetry/engines"))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("TELEMETRY_LOKI_PORT", "http", "a whole number from 1 to 65535"),
        ("TELEMETRY_LOKI_URL", "loki", "an address such as http://127.0.0.1:4318"),
        ("TELEMETRY_GRAFANA", "perhaps", "true or false"),
        ("TELEMETRY_ALERTING", "loki", "grafana or prometheus"),
        ("TELEMETRY_RETENTION_GB", "0", "a whole number from 1 to 100000"),
        ("TELEMETRY_OTLP_BRIDGE_ADDRESS", "4318", "an address with a port, such as"),
    ],
)
def test_invalid_value_is_an_error_that_names_the_variable(
    key: str, value: str, expected: str
) -> None:
    with pytest.raises(ConfigError, match=f"{key}='{value}' is not {expected}") as caught:
        StackSettings.from_env({key: value})
    assert caught.value.exit_code == 78


def test_child_processes_inherit_the_environment_with_the_secrets(tmp_path: Path) -> None:
    given = {"TELEMETRY_HOME": str(tmp_path), "PATH": "/bin", "TELEMETRY_ADMIN_TOKEN": "mine"}
    settings = StackSettings.from_env(given)
    assert settings.grafana_password == ""
    assert not (tmp_path / credentials.FILE).exists(), "reading the settings writes nothing"
    with_secrets = settings.with_secrets()
    assert with_secrets.admin_token == "mine"
    assert len(with_secrets.grafana_password) > 30
    assert set(with_secrets.child_env) == {"PATH", "TELEMETRY_HOME", *credentials.GENERATED}
    assert with_secrets.grafana_password not in repr(with_secrets)


def test_further_variables_change_the_settings_and_what_children_inherit() -> None:
    settings = StackSettings.from_env({"TELEMETRY_LOKI_PORT": "1"}).changed(TELEMETRY_LOKI_PORT="2")
    assert settings.ports["loki"] == 2
    assert settings.urls["loki"] == "https://127.0.0.1:2"
    assert settings.child_env["TELEMETRY_LOKI_PORT"] == "2"


def test_every_setting_has_a_meaning_and_one_variable() -> None:
    settings = StackSettings.settings()
    assert all(one.meaning and not one.meaning.endswith(".") for one in settings)
    variables = [one.variable for one in settings]
    assert len(set(variables)) == len(variables)
    rows = {one.variable: one.default_text for one in settings}
    assert rows["TELEMETRY_HOME"] == "~/.local/state/telemetry"
    assert rows["TELEMETRY_LOKI_PORT"] == "3100"
    assert rows["TELEMETRY_LOKI_URL"] == "its port on 127.0.0.1"
    assert rows["TELEMETRY_GRAFANA"] == "true"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"http_proxy": "http://proxy:3128"}, "127.0.0.1,localhost,::1"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": ".corp"}, ".corp,127.0.0.1,localhost,::1"),
        ({"all_proxy": "x", "no_proxy": "localhost, a"}, "localhost,a,127.0.0.1,::1"),
    ],
)
def test_loopback_is_excluded_from_an_http_proxy(given: dict[str, str], kept: str) -> None:
    environ = dict(given)
    for _ in range(2):  # child processes do it again
        keep_loopback_direct(environ)
        assert (environ["no_proxy"], environ["NO_PROXY"]) == (kept, kept)


def test_environment_without_a_proxy_is_unchanged() -> None:
    environ = {"PATH": "/bin", "http_proxy": ""}
    keep_loopback_direct(environ)
    assert environ == {"PATH": "/bin", "http_proxy": ""}
