"""The token that a process sends with its telemetry."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.util.re import parse_env_headers

from telemetry.settings import credentials, otlp_token

HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


@pytest.mark.parametrize("secret", [credentials.OTLP_TOKEN, credentials.APPS_TOKEN])
@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:4318", "http://localhost:4317"])
def test_token_is_sent_to_this_machine(tmp_path: Path, secret: object, endpoint: str) -> None:
    environ = {"TELEMETRY_HOME": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    otlp_token.add(environ, secret)
    token = credentials.ensure(tmp_path, {})[secret.variable]
    assert parse_env_headers(environ[HEADERS]) == {"authorization": f"Bearer {token}"}


def test_other_headers_stay(tmp_path: Path) -> None:
    environ = {"TELEMETRY_HOME": str(tmp_path), HEADERS: "x-team=a"}
    otlp_token.add(environ, credentials.OTLP_TOKEN)
    assert set(parse_env_headers(environ[HEADERS])) == {"x-team", "authorization"}


@pytest.mark.parametrize(
    "given",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example.org"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://10.0.0.5:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1]:4318"},
        {HEADERS: "Authorization=Bearer%20mine"},
    ],
    ids=str,
)
def test_another_machine_and_another_token_get_none(tmp_path: Path, given: dict[str, str]) -> None:
    environ = {"TELEMETRY_HOME": str(tmp_path), **given}
    before = dict(environ)
    otlp_token.add(environ, credentials.OTLP_TOKEN)
    assert environ == before
    assert not (tmp_path / credentials.FILE).exists()


@pytest.mark.parametrize("base", ["", "https://otlp.example.org"])
def test_signal_that_goes_to_another_machine_gets_none(tmp_path: Path, base: str) -> None:
    given = {
        "TELEMETRY_HOME": str(tmp_path),
        HEADERS: "x-team=a",
        "OTEL_EXPORTER_OTLP_ENDPOINT": base,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://traces.example.org/v1/traces",
    }
    if base:
        given["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] = "http://127.0.0.1:4318/v1/logs"
    environ = dict(given)
    otlp_token.add(environ, credentials.OTLP_TOKEN)
    added = {name for name in environ if environ[name] != given.get(name)}
    expected = {"LOGS"} if base else {"METRICS", "LOGS"}
    assert added == {f"OTEL_EXPORTER_OTLP_{signal}_HEADERS" for signal in expected}
    for name in added:
        assert set(parse_env_headers(environ[name])) == {"x-team", "authorization"}
