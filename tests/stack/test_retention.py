"""The limits in days and gigabytes apply to both stores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from telemetry.errors import ConfigError
from telemetry.settings.stack import StackSettings
from telemetry.stack import processes as stack_processes
from telemetry.stack.retention import fitting_hours, limit_loki
from telemetry.stack.state_folder import StateFolder

HOUR = 3600.0
NOW = 1_000_000 * HOUR


def test_retention_has_defaults_and_is_set() -> None:
    usual = StackSettings.from_env({})
    assert (usual.retention_days, usual.retention_gb, usual.store_mib) == (15, 10, 5120)
    environ = {"TELEMETRY_RETENTION_DAYS": "30", "TELEMETRY_RETENTION_GB": "100"}
    other = StackSettings.from_env(environ)
    assert (other.retention_days, other.retention_gb) == (30, 100)


@pytest.mark.parametrize(
    ("key", "value"),
    [("TELEMETRY_RETENTION_DAYS", "0"), ("TELEMETRY_RETENTION_GB", "10GB")],
)
def test_retention_out_of_range_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}='{value}' is not a whole number from 1 to"):
        StackSettings.from_env({key: value})


def test_both_stores_get_their_retention(tmp_path: Path) -> None:
    environ = {"TELEMETRY_RETENTION_DAYS": "3", "TELEMETRY_RETENTION_GB": "2"}
    programs = {n: Path(n) for n in ("prometheus", "loki", "collector", "alertmanager")}
    found = {
        p.name: p
        for p in stack_processes.engines(
            StateFolder(tmp_path), StackSettings.from_env(environ), programs, "prometheus"
        )
    }
    assert "--storage.tsdb.retention.time=3d" in found["prometheus"].argv
    assert "--storage.tsdb.retention.size=1024MB" in found["prometheus"].argv
    assert found["loki"].env["TELEMETRY_RETENTION_DAYS"] == "3"


def test_data_that_fits_keeps_full_retention() -> None:
    files = [(NOW - hours * HOUR, 10) for hours in range(100)]
    assert fitting_hours(files, NOW, 1000, 360) == 360


def test_data_that_does_not_fit_shortens_retention() -> None:
    """The files of the newest 50 hours fill Loki's share."""
    files = [(NOW - hours * HOUR, 10) for hours in range(100)]
    assert fitting_hours(files, NOW, 500, 360) == 50


def test_retention_is_at_least_a_day() -> None:
    """Loki deletes only whole days."""
    assert fitting_hours([(NOW - HOUR, 10_000)], NOW, 1, 360) == 24
    assert fitting_hours([], NOW, 1, 12) == 24


def test_runtime_file_of_loki_has_its_retention(tmp_path: Path) -> None:
    layout = StateFolder(tmp_path)
    layout.make()
    chunks = layout.data / "loki" / "chunks" / "fake"
    chunks.mkdir(parents=True)
    assert limit_loki(layout, StackSettings(retention_gb=1)) == 360
    for hours in (1, 30, 60):
        # A sparse file: it has the size, but needs no space on the disk.
        with open(chunks / f"chunk-{hours}", "wb") as chunk:
            chunk.truncate(300 << 20)
        written = (chunks / f"chunk-{hours}").stat().st_mtime - hours * HOUR
        os.utime(chunks / f"chunk-{hours}", (written, written))
    assert limit_loki(layout, StackSettings(retention_gb=1)) == 30
    assert yaml.safe_load(layout.loki_runtime.read_text()) == {
        "overrides": {"fake": {"retention_period": "30h"}}
    }
