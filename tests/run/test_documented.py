"""docs/library.md has every setting that `telemetry run` reads; docs/run.md names no others."""

from __future__ import annotations

import re
from pathlib import Path

from telemetry.settings.stack import StackSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "library.md").read_text()
RUN = (ROOT / "docs" / "run.md").read_text()
NAME = re.compile(r"\b(?:TELEMETRY|OTEL)_[A-Z_]*[A-Z]\b")
LIBRARY = [
    *(ROOT / "telemetry").glob("*.py"),
    *(
        path
        for folder in ("asgi", "export", "logs", "metrics", "otlp", "run", "settings", "system")
        for path in (ROOT / "telemetry" / folder).rglob("*.py")
    ),
]
# Settings of the stack, documented in running.md; a constant of the catalog; settings that other
# packages read.
OTHERS = {one.variable for one in StackSettings.settings()} | {
    "TELEMETRY_DROPPED",
    "TELEMETRY_HOSTS",
    "OTEL_PYTHON_DISTRO",
    "OTEL_PYTHON_CONFIGURATOR",
}
# Composed from a prefix in telemetry.settings.library, or read by the SDK's exporters alone.
COMPOSED = {
    f"OTEL_EXPORTER_OTLP_{name}"
    for name in ("ENDPOINT", "PROTOCOL", "TIMEOUT", "COMPRESSION", "HEADERS")
}


def _read() -> set[str]:
    from telemetry.settings import credentials

    found = {name for path in LIBRARY for name in NAME.findall(path.read_text())}
    single = re.compile("OTEL_EXPORTER_OTLP_(METRICS|LOGS|TRACES)_")
    found = {name for name in found if not single.match(name)}
    return (found | COMPOSED) - OTHERS - set(credentials.GENERATED)


def test_every_setting_of_library_is_documented() -> None:
    assert _read() - set(NAME.findall(TEXT)) == set()


def test_every_documented_setting_exists() -> None:
    assert set(NAME.findall(TEXT + RUN)) - _read() - OTHERS == set()
