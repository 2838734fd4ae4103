"""One setting for days and gigabytes, divided between the two stores."""

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


def test_defaults_and_settings() -> None:
    usual = StackSettings.from_env({})
    assert (usual.retention_days, usual.retention_gb, usual.store_mib) == (15, 10, 5120)
    environ = {"TELEMETRY_RETENTION_DAYS": "30", "TELEMETRY_RETENTION_GB": "100"}
    other = StackSettings.from_env(environ)
    assert (other.retention_days, other.retention_gb) == (30, 100)


@pytest.mark.parametrize(
    ("key", "value"),
    [("TELEMETRY_RETENTION_DAYS", "0"), ("TELEMETRY_RETENTION_GB", "10GB")],
)
def test_a_setting_that_is_no_number_in_its_range(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}='{value}' is not a whole number from 1 to"):
        StackSettings.from_env({key: value})


def test_both_stores_are_told(tmp_path: Path) -> None:
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


def test_what_fits_is_kept_for_all_its_days() -> None:
    files = [(NOW - hours * HOUR, 10) for hours in range(100)]
    assert fitting_hours(files, NOW, 1000, 360) == 360


def test_what_does_not_fit_shortens_the_days() -> None:
    """The newest 50 hours fill the share; whatever is older goes."""
    files = [(NOW - hours * HOUR, 10) for hours in range(100)]
    assert fitting_hours(files, NOW, 500, 360) == 50


def test_a_day_is_always_kept() -> None:
    """Loki deletes by whole days."""
    assert fitting_hours([(NOW - HOUR, 10_000)], NOW, 1, 360) == 24
    assert fitting_hours([], NOW, 1, 12) == 24


def test_loki_s_runtime_file_says_how_long(tmp_path: Path) -> None:
    layout = StateFolder(tmp_path)
    layout.make()
    chunks = layout.data / "loki" / "chunks" / "fake"
    chunks.mkdir(parents=True)
    assert limit_loki(layout, StackSettings(retention_gb=1)) == 360
    for hours in (1, 30, 60):
        # Sparse: the size counts, the disk is not filled.
        with open(chunks / f"chunk-{hours}", "wb") as chunk:
            chunk.truncate(300 << 20)
        written = (chunks / f"chunk-{hours}").stat().st_mtime - hours * HOUR
        os.utime(chunks / f"chunk-{hours}", (written, written))
    assert limit_loki(layout, StackSettings(retention_gb=1)) == 30
    assert yaml.safe_load(layout.loki_runtime.read_text()) == {
        "overrides": {"fake": {"retention_period": "30h"}}
    }
