"""The library's settings from the environment, and errors about invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import telemetry
from telemetry.errors import ConfigError, TelemetryError
from telemetry.settings.library import Settings


def test_default_settings_export_to_the_local_collector() -> None:
    settings = Settings.from_env({})
    assert settings.metrics_exporters == settings.logs_exporters == ("otlp",)
    assert settings.traces_exporters == ()
    assert settings.otlp_endpoint == "http://127.0.0.1:4318"
    assert settings.export_interval_s == 5
    assert (settings.metrics_path, settings.run_dir) == ("/metrics", None)
    assert not settings.disabled


def test_variables_override_the_defaults() -> None:
    settings = Settings.from_env(
        {
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=sh%6fp, handle=amy",
            "OTEL_METRICS_EXPORTER": "otlp, prometheus",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_METRIC_EXPORT_INTERVAL": "1500",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/",
            "TELEMETRY_METRICS_PATH": "/internal/metrics",
            "TELEMETRY_METRICS_PORT": "9100",
            "TELEMETRY_RUN_DIR": "/run/shop",
        }
    )
    assert settings.service_name == "shop"
    assert settings.metrics_exporters == ("otlp", "prometheus")
    assert settings.logs_exporters == ()
    assert settings.export_interval_s == 1.5
    assert settings.otlp_endpoint == "http://collector:4318"
    assert (settings.metrics_path, settings.metrics_port) == ("/internal/metrics", 9100)
    assert settings.run_dir == Path("/run/shop")
    named = Settings.from_env(
        {"OTEL_SERVICE_NAME": "first", "OTEL_RESOURCE_ATTRIBUTES": "service.name=second"}
    )
    assert named.service_name == "first"


@pytest.mark.parametrize("value", ["off", "OFF", "none", " "])
def test_metrics_path_can_be_switched_off(value: str) -> None:
    assert Settings.from_env({"TELEMETRY_METRICS_PATH": value}).metrics_path == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "ftp://collector"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_METRICS_EXPORTER", "statsd"),
        ("OTEL_LOGS_EXPORTER", "prometheus"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "5s"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "-1"),
        ("OTEL_RESOURCE_ATTRIBUTES", "handle"),
        ("OTEL_SDK_DISABLED", "maybe"),
        ("TELEMETRY_METRICS_PATH", "metrics"),
        ("TELEMETRY_METRICS_PORT", "70000"),
        ("TELEMETRY_CARDINALITY_LIMIT", "none"),
        ("TELEMETRY_LOG_LEVEL", "LOUD"),
    ],
)
def test_invalid_value_is_an_error_that_names_the_variable(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({key: value})
    error = caught.value
    assert error.key == key
    assert key in error.message
    assert "\n" not in error.message
    assert key in error.remedy
    assert error.exit_code == 78


def test_instrument_raises_an_invalid_setting_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "often")
    with telemetry.testing.isolated(), pytest.raises(ConfigError, match="'often'"):
        telemetry.instrument(None)


def test_config_error_is_a_telemetry_error() -> None:
    error = TelemetryError(
        "the port is taken", remedy="stop the process that holds it", exit_code=3
    )
    assert (str(error), error.remedy) == ("the port is taken", "stop the process that holds it")
    assert error.exit_code == 3
    assert issubclass(ConfigError, TelemetryError)
