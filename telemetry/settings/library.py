"""The library's settings, read once into frozen objects.

An argument overrides the environment, which overrides the default. Standard OTEL_* variables are
used if there is one; our own start with TELEMETRY_.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from telemetry.redaction import Redactor
from telemetry.settings.declare import (
    FLAG,
    HTTP_URL,
    PATH,
    TEXT,
    Declared,
    Kind,
    Setting,
    choice,
    declared,
    derived,
    milliseconds,
    setting,
    whole_number,
)
from telemetry.settings.stack import PORT_SETTINGS

EXPORTERS = ("otlp", "prometheus", "console", "none")


def _level(text: str) -> int:
    level = logging.getLevelNamesMapping().get(text.upper())
    if not level:
        raise ValueError(text)
    return level


def _path(text: str) -> str:
    if text.lower() in ("off", "none"):
        return ""
    if not text.startswith("/"):
        raise ValueError(text)
    return text


def _exporters(*known: str) -> Kind[tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if not set(names) <= set(known):
            raise ValueError(text)
        return () if "none" in names else names

    expected = "otlp, console, none or (metrics only) prometheus"
    return Kind(parse, expected, lambda names: ",".join(names) or "none")


def _resource(text: str) -> dict[str, str]:
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ValueError(text)
        found[key.strip()] = unquote(value.strip())
    return found


def _grpc_address(text: str) -> str:
    # gRPC also accepts an address without a scheme.
    return text if "://" not in text and ":" in text else HTTP_URL.parse(text)


def _timeout(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 3600:
        raise ValueError(text)
    return seconds


def _compression(text: str) -> str:
    return choice("none", "gzip", "deflate").parse(text.lower())


RESOURCE = Setting(
    "OTEL_RESOURCE_ATTRIBUTES",
    Kind(_resource, "a list like key=value,key=value"),
    {},
    "resource attributes of the telemetry: key=value,key=value",
    otherwise=lambda environ: {},
    shown="none",
)
SERVICE_NAME = Setting(
    "OTEL_SERVICE_NAME",
    TEXT,
    "",
    "name of the service",
    otherwise=lambda environ: RESOURCE.read(environ).get("service.name", ""),
    shown="the name given in code, or the app's",
)
METRICS_PATH = Setting(
    "TELEMETRY_METRICS_PATH",
    Kind(_path, "a path such as /metrics, or off"),
    "/metrics",
    "path at which the app serves its metrics, or off",
    # An empty value means off, too.
    otherwise=lambda environ: "" if "TELEMETRY_METRICS_PATH" in environ else "/metrics",
)
_PROTOCOL = choice("http/protobuf", "grpc")
_GRPC_ADDRESS = Kind(_grpc_address, HTTP_URL.expected)
_TIMEOUT = Kind(_timeout, "a number of seconds, such as 10")
_COMPRESSION = Kind(_compression, "gzip, deflate or none")


@dataclass(frozen=True)
class LogSettings(Declared):
    """Settings of the log export."""

    level: int = setting(
        "TELEMETRY_LOG_LEVEL",
        Kind(_level, "DEBUG, INFO, WARNING, ERROR or CRITICAL", logging.getLevelName),
        logging.INFO,
        "lowest level to export",
    )
    queue: int = setting(
        "OTEL_BLRP_MAX_QUEUE_SIZE",
        whole_number(1, 1_000_000),
        2048,
        "maximum queued log records; further ones are dropped and counted",
    )
    batch: int = setting(
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
        whole_number(1, 100_000),
        512,
        "maximum log records per export",
    )
    delay_s: float = setting(
        "OTEL_BLRP_SCHEDULE_DELAY",
        milliseconds(1, 3_600_000),
        1.0,
        "maximum milliseconds that a log record waits before export",
    )


@dataclass(frozen=True)
class OTLP:
    """Address and protocol of one signal's OTLP export.

    Args:
        protocol: ``http/protobuf`` or ``grpc``.
        address: base address, or the full address if it is set for this signal.
        given: an OTEL_* variable sets the address, so the SDK's exporter reads it itself.
        timeout_given: an OTEL_* variable sets the timeout.
    """

    protocol: str
    address: str
    given: bool
    timeout_given: bool


def _otlp(signal: str, environ: Mapping[str, str]) -> OTLP:
    """Read one signal's OTLP settings; signal "" gives those common to all.

    The SDK's exporters read the same variables, but would report an invalid one later.
    """

    def read(name: str, kind: Kind[Any]) -> Any:
        own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}"
        given = Setting(own, kind, None, "").read(environ)
        common = Setting(f"OTEL_EXPORTER_OTLP_{name}", kind, None, "")
        return common.read(environ) if given is None else given

    protocol = read("PROTOCOL", _PROTOCOL) or "http/protobuf"
    grpc = protocol == "grpc"
    given = read("ENDPOINT", _GRPC_ADDRESS if grpc else HTTP_URL)
    timeout = read("TIMEOUT", _TIMEOUT)
    read("COMPRESSION", _COMPRESSION)
    port = PORT_SETTINGS["otlp_grpc" if grpc else "otlp_http"]
    address = given or f"http://127.0.0.1:{port.read(environ)}"
    return OTLP(protocol, address, bool(given), timeout is not None)


@dataclass(frozen=True)
class Settings(Declared):
    """The library's settings.

    Args:
        service_name: "" for the name given in code, or the app's name.
        disabled: instrument and export nothing.
        traces_exporters: empty by default: spans are optional.
        metrics_path: "" if it is ``off``.
        metrics_port: 0 for no port.
        run_dir: run folder that several workers share, or None.
        otlp: OTLP settings of ``metrics``, ``logs`` and ``traces``, and under "" those common to
            all.
    """

    service_name: str = declared(SERVICE_NAME)
    disabled: bool = setting(
        "OTEL_SDK_DISABLED", FLAG, False, "disable all instrumentation and export"
    )
    metrics_exporters: tuple[str, ...] = setting(
        "OTEL_METRICS_EXPORTER",
        _exporters(*EXPORTERS),
        ("otlp",),
        "exporters for metrics, separated by commas: otlp, prometheus, console or none",
    )
    logs_exporters: tuple[str, ...] = setting(
        "OTEL_LOGS_EXPORTER",
        _exporters("otlp", "console", "none"),
        ("otlp",),
        "exporters for logs, separated by commas: otlp, console or none",
    )
    traces_exporters: tuple[str, ...] = setting(
        "OTEL_TRACES_EXPORTER",
        _exporters("otlp", "console", "none"),
        (),
        "exporters for spans, separated by commas: otlp, console or none",
    )
    export_interval_s: float = setting(
        "OTEL_METRIC_EXPORT_INTERVAL",
        milliseconds(10, 3_600_000),
        5.0,
        "milliseconds between exports of metrics",
    )
    export_timeout_s: float = setting(
        "OTEL_METRIC_EXPORT_TIMEOUT",
        milliseconds(1, 3_600_000),
        10.0,
        "timeout of an export of metrics in milliseconds, if no OTLP timeout is set",
    )
    metrics_path: str = declared(METRICS_PATH)
    metrics_port: int = setting(
        "TELEMETRY_METRICS_PORT",
        whole_number(0, 65535),
        0,
        "separate port on 127.0.0.1 for the metrics; 0: none",
    )
    prometheus_host: str = setting(
        "OTEL_EXPORTER_PROMETHEUS_HOST",
        TEXT,
        "127.0.0.1",
        "listen address of the prometheus exporter",
    )
    prometheus_port: int = setting(
        "OTEL_EXPORTER_PROMETHEUS_PORT",
        whole_number(1, 65535),
        9464,
        "port of the prometheus exporter",
    )
    cardinality_limit: int = setting(
        "TELEMETRY_CARDINALITY_LIMIT",
        whole_number(1, 1_000_000),
        2000,
        'maximum series per instrument; further ones share `otel_metric_overflow="true"`',
    )
    run_dir: Path | None = setting(
        "TELEMETRY_RUN_DIR",
        PATH,
        None,
        "run folder that the workers of one run share",
        shown="set by `telemetry run`",
    )
    logs: LogSettings = derived(LogSettings.from_env)
    otlp: Mapping[str, OTLP] = derived(
        lambda environ: {each: _otlp(each, environ) for each in ("", "metrics", "logs", "traces")}
    )
    resource: Mapping[str, str] = declared(RESOURCE)
    redactor: Redactor = derived(Redactor.from_env)

    @property
    def otlp_endpoint(self) -> str:
        """Base address for OTLP: OTEL_EXPORTER_OTLP_ENDPOINT, or the local Collector."""
        return self.otlp[""].address


OTHERS = (
    Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        HTTP_URL,
        "",
        "base address for OTLP; also for each signal: `…_METRICS_ENDPOINT`, `…_LOGS_ENDPOINT`, "
        "`…_TRACES_ENDPOINT`",
        shown="http://127.0.0.1:4318, :4317 for gRPC",
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        _PROTOCOL,
        "http/protobuf",
        "OTLP's protocol: `http/protobuf` or `grpc`; also for each signal",
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        _TIMEOUT,
        10.0,
        "timeout of an OTLP export in seconds, retries included; also for each signal",
        shown="10",
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        _COMPRESSION,
        "none",
        "compression of OTLP: `none`, `gzip` or `deflate`; also for each signal",
    ),
    Setting(
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
        TEXT,
        "",
        "instrumentations to skip under `opentelemetry-instrument`; those of ASGI frameworks are "
        "always off, so that a request is counted once",
    ),
    Setting(
        "TELEMETRY_REDACT_PATTERNS",
        TEXT,
        "",
        "regular expressions, one per line; matches are masked, in addition to known secrets",
    ),
)
"""Settings that are read elsewhere (for each signal, by the SDK, by the redactor), for the docs."""
