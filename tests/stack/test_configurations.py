"""The real engines accept the configurations of the package and those that `up` writes."""

from __future__ import annotations

import os
import subprocess

import pytest

from telemetry.settings.stack import StackSettings
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import ensure
from telemetry.system import packaged_files
from tests.fixtures.stack import Stack

pytestmark = pytest.mark.stack


def _validate(*configs: str, **environ: str) -> subprocess.CompletedProcess[str]:
    program = ensure.ensure(engines.table()["collector"], StackSettings.from_env(os.environ))
    given = {"TELEMETRY_HOME": "/x", "TELEMETRY_COLLECTOR_DATA": "/x", "TELEMETRY_OTLP_TOKEN": "t"}
    return subprocess.run(
        [program, "validate", *(f"--config={packaged_files.path(name)}" for name in configs)],
        env={"PATH": os.environ["PATH"], **given, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_collector_accepts_its_configuration() -> None:
    done = _validate("collector/config.yaml")
    assert done.returncode == 0, done.stderr
    traced = _validate(
        "collector/config.yaml",
        "collector/traces.yaml",
        TELEMETRY_TRACES_ENDPOINT="http://127.0.0.1:4319",
    )
    assert traced.returncode == 0, traced.stderr


def test_prometheus_accepts_its_configuration(stack: Stack) -> None:
    prometheus = engines.table()["prometheus"]
    ensure.ensure(prometheus, StackSettings.from_env(os.environ))
    promtool = ensure.cached(prometheus, StackSettings.from_env(os.environ), "promtool")
    assert promtool is not None
    written = stack.home / "config" / "prometheus.yaml"
    for command in (
        [promtool, "check", "config", written],
        [
            promtool,
            "check",
            "config",
            "--syntax-only",
            packaged_files.path("compose/prometheus/prometheus.yaml"),
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
