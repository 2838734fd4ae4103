"""Settings, read once at the edge into frozen objects. Argument, then environment, then default.

The standard OTEL_* variables come first; our own start with TELEMETRY_.
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
    # gRPC takes an address without a scheme too.
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
    "what the telemetry is of: key=value,key=value",
    otherwise=lambda environ: {},
    shown="none",
)
SERVICE_NAME = Setting(
    "OTEL_SERVICE_NAME",
    TEXT,
    "",
    "the service's name",
    otherwise=lambda environ: RESOURCE.read(environ).get("service.name", ""),
    shown="the one given in code, or the app's",
)
METRICS_PATH = Setting(
    "TELEMETRY_METRICS_PATH",
    Kind(_path, "a path such as /metrics, or off"),
    "/metrics",
    "where the app answers with its metrics; off for nowhere",
    # Set to nothing is off, too.
    otherwise=lambda environ: "" if "TELEMETRY_METRICS_PATH" in environ else "/metrics",
)
_PROTOCOL = choice("http/protobuf", "grpc")
_GRPC_ADDRESS = Kind(_grpc_address, HTTP_URL.expected)
_TIMEOUT = Kind(_timeout, "a number of seconds, such as 10")
_COMPRESSION = Kind(_compression, "gzip, deflate or none")


@dataclass(frozen=True)
class LogSettings(Declared):
    """How logs are exported."""

    level: int = setting(
        "TELEMETRY_LOG_LEVEL",
        Kind(_level, "DEBUG, INFO, WARNING, ERROR or CRITICAL", logging.getLevelName),
        logging.INFO,
        "the lowest level that is exported",
    )
    queue: int = setting(
        "OTEL_BLRP_MAX_QUEUE_SIZE", whole_number(1, 1_000_000), 2048, "records that wait at most"
    )
    batch: int = setting(
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
        whole_number(1, 100_000),
        512,
        "records that are sent together at most",
    )
    delay_s: float = setting(
        "OTEL_BLRP_SCHEDULE_DELAY",
        milliseconds(1, 3_600_000),
        1.0,
        "milliseconds that a record waits for others at most",
    )


@dataclass(frozen=True)
class OTLP:
    """Where and how one signal goes.

    Args:
        protocol: ``http/protobuf`` or ``grpc``.
        address: base address, or the whole one where that is set for one signal.
        given: whether OTEL_* names the address, so that the SDK's exporter finds it itself.
        timeout_given: the same of the timeout.
    """

    protocol: str
    address: str
    given: bool
    timeout_given: bool


def _otlp(signal: str, environ: Mapping[str, str]) -> OTLP:
    """How one signal is exported, "" for what is common to them. The SDK's exporters read the same
    variables, and would complain of them one by one, later."""

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
    """What the library needs to know.

    Args:
        service_name: "" for the one given in code or the app's name.
        disabled: nothing is instrumented or exported.
        traces_exporters: none unless set: spans are an option.
        metrics_path: "" where it is ``off``.
        metrics_port: 0 for none.
        run_dir: the folder that several workers share, or None.
        otlp: how each of ``metrics``, ``logs`` and ``traces`` is exported over OTLP; "" for what
            is common to them.
    """

    service_name: str = declared(SERVICE_NAME)
    disabled: bool = setting(
        "OTEL_SDK_DISABLED", FLAG, False, "true: nothing is instrumented or exported"
    )
    metrics_exporters: tuple[str, ...] = setting(
        "OTEL_METRICS_EXPORTER", _exporters(*EXPORTERS), ("otlp",), "where metrics go"
    )
    logs_exporters: tuple[str, ...] = setting(
        "OTEL_LOGS_EXPORTER", _exporters("otlp", "console", "none"), ("otlp",), "where logs go"
    )
    traces_exporters: tuple[str, ...] = setting(
        "OTEL_TRACES_EXPORTER", _exporters("otlp", "console", "none"), (), "where spans go"
    )
    export_interval_s: float = setting(
        "OTEL_METRIC_EXPORT_INTERVAL",
        milliseconds(10, 3_600_000),
        5.0,
        "milliseconds between two exports of metrics",
    )
    export_timeout_s: float = setting(
        "OTEL_METRIC_EXPORT_TIMEOUT",
        milliseconds(1, 3_600_000),
        10.0,
        "milliseconds that an export of metrics may take",
    )
    metrics_path: str = declared(METRICS_PATH)
    metrics_port: int = setting(
        "TELEMETRY_METRICS_PORT", whole_number(0, 65535), 0, "a port of its own for the metrics"
    )
    prometheus_host: str = setting(
        "OTEL_EXPORTER_PROMETHEUS_HOST", TEXT, "127.0.0.1", "where the prometheus exporter listens"
    )
    prometheus_port: int = setting(
        "OTEL_EXPORTER_PROMETHEUS_PORT", whole_number(1, 65535), 9464, "its port"
    )
    cardinality_limit: int = setting(
        "TELEMETRY_CARDINALITY_LIMIT", whole_number(1, 1_000_000), 2000, "series of an instrument"
    )
    run_dir: Path | None = setting(
        "TELEMETRY_RUN_DIR", PATH, None, "the folder that a run's workers share", shown="none"
    )
    logs: LogSettings = derived(LogSettings.from_env)
    otlp: Mapping[str, OTLP] = derived(
        lambda environ: {each: _otlp(each, environ) for each in ("", "metrics", "logs", "traces")}
    )
    resource: Mapping[str, str] = declared(RESOURCE)
    redactor: Redactor = derived(Redactor.from_env)

    @property
    def otlp_endpoint(self) -> str:
        """Base address for OTLP: OTEL_EXPORTER_OTLP_ENDPOINT, else the local collector."""
        return self.otlp[""].address


OTHERS = (
    Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        HTTP_URL,
        "",
        "destination of OTLP; also for each signal: `…_METRICS_ENDPOINT`, `…_LOGS_ENDPOINT`, "
        "`…_TRACES_ENDPOINT`",
        shown="http://127.0.0.1:4318, :4317 for gRPC",
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        _PROTOCOL,
        "http/protobuf",
        "`http/protobuf` or `grpc`; also for each signal",
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        _TIMEOUT,
        10.0,
        "seconds that an export may take, retries included; also for each signal",
        shown="10",
    ),
    Setting(
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        _COMPRESSION,
        "none",
        "`none`, `gzip` or `deflate`; also for each signal",
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
"""Settings for the documentation that are read for each signal, by the SDK, or line by line."""
