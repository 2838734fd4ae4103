"""docs/library.md and the code name the same settings."""

from __future__ import annotations

import re

from telemetry import catalog
from telemetry.system import packaged_files

# The library: files that an instrumented app imports.
_LIBRARY = (
    "asgi/*.py",
    "export/*.py",
    "instrumentation.py",
    "logs/*.py",
    "metrics/*.py",
    "otlp/*.py",
    "redaction/__init__.py",
    "run/distro.py",
    "settings/library.py",
)
# Named in the library's code, but documented in docs/running.md.
_STACK = {"TELEMETRY_HOME", "TELEMETRY_PROMETHEUS_PORT", "TELEMETRY_PROMETHEUS_URL"}


def _table(heading: str) -> list[list[str]]:
    section = packaged_files.path("docs/library.md").read_text().split(f"\n## {heading}\n")[1]
    rows = [line for line in section.split("\n## ")[0].splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def _read() -> set[str]:
    """Return every variable whose whole name is in the library's source."""
    found: set[str] = set()
    package = packaged_files.path("telemetry")
    for path in (path for pattern in _LIBRARY for path in package.glob(pattern)):
        found |= set(re.findall(r"\b(?:OTEL|TELEMETRY)_[A-Z_]*[A-Z]\b(?!_?\{)", path.read_text()))
    constants = {metric.name.upper().replace(".", "_") for metric in catalog.METRICS.values()}
    return found - constants - _STACK


def test_table_lists_exactly_the_settings_of_the_library() -> None:
    documented = {row[0].strip("`") for row in _table("Settings")}
    # The code builds these names from parts, for each signal.
    built = {f"OTEL_EXPORTER_OTLP_{what}" for what in ("COMPRESSION", "PROTOCOL")}
    of_one_signal = re.compile(r"OTEL_EXPORTER_OTLP_(METRICS|LOGS|TRACES)?_?(ENDPOINT|TIMEOUT)?$")
    read = {name for name in _read() if not of_one_signal.match(name)}
    common = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TIMEOUT"}
    assert documented == read | built | common
