"""Settings, read once at the edge into frozen objects. Argument, then environment, then default.

The standard OTEL_* variables come first; our own start with TELEMETRY_.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from telemetry.errors import ConfigError
from telemetry.redaction import Redactor
from telemetry.settings.env import flag, http_url, integer
from telemetry.settings.stack import PORT_SETTINGS

EXPORTERS = ("otlp", "prometheus", "console", "none")


@dataclass(frozen=True)
class LogSettings:
    """How logs are exported.

    Args:
        level: TELEMETRY_LOG_LEVEL, the lowest that is exported, as in `logging`.
        queue: OTEL_BLRP_MAX_QUEUE_SIZE, records that wait at most.
        batch: OTEL_BLRP_MAX_EXPORT_BATCH_SIZE, records sent at once at most.
        delay_s: OTEL_BLRP_SCHEDULE_DELAY, the longest a record waits for company.
    """

    level: int = logging.INFO
    queue: int = 2048
    batch: int = 512
    delay_s: float = 1.0

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> LogSettings:
        """Read the environment.

        Raises:
            ConfigError: a variable has a value that can't be used.
        """
        text = environ.get("TELEMETRY_LOG_LEVEL", "").strip().upper() or "INFO"
        level = logging.getLevelNamesMapping().get(text)
        if not level:
            raise ConfigError(
                "TELEMETRY_LOG_LEVEL", text, "DEBUG, INFO, WARNING, ERROR or CRITICAL"
            )
        return cls(
            level,
            integer(environ, "OTEL_BLRP_MAX_QUEUE_SIZE", 2048, 1, 1_000_000),
            integer(environ, "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", 512, 1, 100_000),
            integer(environ, "OTEL_BLRP_SCHEDULE_DELAY", 1000, 1, 3_600_000) / 1000,
        )


@dataclass(frozen=True)
class Settings:
    """What the library needs to know.

    Args:
        service_name: OTEL_SERVICE_NAME; "" for the one given in code or the app's name.
        disabled: OTEL_SDK_DISABLED; nothing is instrumented or exported.
        metrics_exporters: OTEL_METRICS_EXPORTER, e.g. ("otlp",).
        logs_exporters: OTEL_LOGS_EXPORTER.
        traces_exporters: OTEL_TRACES_EXPORTER; none unless set: spans are an option.
        export_interval_s: OTEL_METRIC_EXPORT_INTERVAL, 5 s unless set.
        export_timeout_s: OTEL_METRIC_EXPORT_TIMEOUT.
        metrics_path: TELEMETRY_METRICS_PATH, "" where it is ``off``.
        metrics_port: TELEMETRY_METRICS_PORT, a port of its own for `/metrics`; 0 for none.
        cardinality_limit: TELEMETRY_CARDINALITY_LIMIT, series per instrument.
        run_dir: TELEMETRY_RUN_DIR, the folder that several workers share, or None.
        logs: level and queue of the logs.
    """

    service_name: str = ""
    disabled: bool = False
    metrics_exporters: tuple[str, ...] = ("otlp",)
    logs_exporters: tuple[str, ...] = ("otlp",)
    traces_exporters: tuple[str, ...] = ()
    export_interval_s: float = 5.0
    export_timeout_s: float = 10.0
    metrics_path: str = "/metrics"
    metrics_port: int = 0
    cardinality_limit: int = 2000
    run_dir: Path | None = None
    logs: LogSettings = field(default_factory=LogSettings)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment.

        Raises:
            ConfigError: a variable has a value that can't be used.
        """
        env = dict(os.environ if environ is None else environ)
        _check_otel(env)
        path = env.get("TELEMETRY_METRICS_PATH", "/metrics").strip()
        if path.lower() in ("off", "none", ""):
            path = ""
        elif not path.startswith("/"):
            raise ConfigError("TELEMETRY_METRICS_PATH", path, "a path such as /metrics, or off")
        run_dir = env.get("TELEMETRY_RUN_DIR", "")
        return cls(
            service_name=env.get("OTEL_SERVICE_NAME", "") or _resource(env).get("service.name", ""),
            disabled=flag(env, "OTEL_SDK_DISABLED", False),
            metrics_exporters=_exporters(env, "OTEL_METRICS_EXPORTER", ("otlp",)),
            logs_exporters=_exporters(env, "OTEL_LOGS_EXPORTER", ("otlp",)),
            traces_exporters=_exporters(env, "OTEL_TRACES_EXPORTER", ()),
            export_interval_s=integer(env, "OTEL_METRIC_EXPORT_INTERVAL", 5000, 10, 3_600_000)
            / 1000,
            export_timeout_s=integer(env, "OTEL_METRIC_EXPORT_TIMEOUT", 10_000, 1, 3_600_000)
            / 1000,
            metrics_path=path,
            metrics_port=integer(env, "TELEMETRY_METRICS_PORT", 0, 0, 65535),
            cardinality_limit=integer(env, "TELEMETRY_CARDINALITY_LIMIT", 2000, 1, 1_000_000),
            run_dir=Path(run_dir) if run_dir else None,
            logs=LogSettings.from_env(env),
            environ=env,
        )

    @property
    def otlp_endpoint(self) -> str:
        """Base address for OTLP: OTEL_EXPORTER_OTLP_ENDPOINT, else the local collector."""
        return self.otlp("").address

    def otlp(self, signal: str) -> OTLP:
        """How one signal is exported over OTLP.

        Args:
            signal: ``METRICS``, ``LOGS`` or ``TRACES``; "" for what is common to them.
        """
        own = f"{signal}_" if signal else ""
        given = self.environ.get(f"OTEL_EXPORTER_OTLP_{own}ENDPOINT") or self.environ.get(
            "OTEL_EXPORTER_OTLP_ENDPOINT", ""
        )
        protocol = _protocol(self.environ, own)
        name = "otlp_grpc" if protocol == "grpc" else "otlp_http"
        default = f"http://127.0.0.1:{PORT_SETTINGS[name].read(self.environ)}"
        timeouts = (f"OTEL_EXPORTER_OTLP_{own}TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
        timeout_given = any(map(self.environ.get, timeouts))
        return OTLP(protocol, given.rstrip("/") or default, bool(given), timeout_given)


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


def _check_otel(env: Mapping[str, str]) -> None:
    """What the SDK's exporters read themselves, and would complain of one by one, later."""
    for signal in ("", "METRICS_", "LOGS_", "TRACES_"):
        prefix = f"OTEL_EXPORTER_OTLP_{signal}"
        protocol = _protocol(env, signal)
        endpoint = env.get(f"{prefix}ENDPOINT", "")
        # gRPC takes an address without a scheme too.
        if endpoint and not (protocol == "grpc" and "://" not in endpoint and ":" in endpoint):
            http_url(f"{prefix}ENDPOINT", endpoint)
        if timeout := env.get(f"{prefix}TIMEOUT", "").strip():
            try:
                usable = 0 < float(timeout) < 3600
            except ValueError:
                usable = False
            if not usable:
                raise ConfigError(f"{prefix}TIMEOUT", timeout, "a number of seconds, such as 10")
        compression = env.get(f"{prefix}COMPRESSION", "").strip().lower()
        if compression not in ("", "none", "gzip", "deflate"):
            raise ConfigError(f"{prefix}COMPRESSION", compression, "gzip, deflate or none")
    _resource(env)
    Redactor.from_env(env)


def _resource(env: Mapping[str, str]) -> dict[str, str]:
    found = {}
    text = env.get("OTEL_RESOURCE_ATTRIBUTES", "")
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError("OTEL_RESOURCE_ATTRIBUTES", text, "a list like key=value,key=value")
        found[key.strip()] = unquote(value.strip())
    return found


def _exporters(env: Mapping[str, str], key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    text = env.get(key, "").strip()
    if not text:
        return default
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in EXPORTERS or (name == "prometheus" and "METRICS" not in key):
            raise ConfigError(key, text, "otlp, console, none or (metrics only) prometheus")
    return () if "none" in names else names


def _protocol(env: Mapping[str, str], signal: str = "") -> str:
    key = "OTEL_EXPORTER_OTLP_PROTOCOL"
    if signal and env.get(f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL", "").strip():
        key = f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL"
    text = env.get(key, "").strip() or "http/protobuf"
    if text not in ("http/protobuf", "grpc"):
        raise ConfigError(key, text, "http/protobuf or grpc")
    return text
