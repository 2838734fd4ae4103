"""Scrapes: the engines' own metrics, the services' `up`, and the host's metrics."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.stack import Stack, until
from tests.ports import free_port

pytestmark = pytest.mark.stack


def test_metrics_of_engines_are_scraped(stack: Stack) -> None:
    stack.wait_query(
        'up{job=~"collector|prometheus|loki|alertmanager"} == 1', lambda found: len(found) == 4
    )
    stack.wait_query('otelcol_exporter_queue_size{job="collector"}', lambda found: len(found) >= 2)
    stack.wait_query('otelcol_exporter_queue_capacity{job="collector"}')
    stack.wait_query('{__name__=~"otelcol_receiver_accepted_metric_points.*",job="collector"}')
    stack.wait_query('loki_build_info{job="loki"}')


def test_scrape_of_service_stores_only_up(stack: Stack, tmp_path: Path) -> None:
    """A service's series come by OTLP; scraping them too would store each twice."""
    (tmp_path / "tiny.py").write_text(
        "from starlette.applications import Starlette\n"
        "from starlette.responses import PlainTextResponse\n"
        "from starlette.routing import Route\n"
        "app = Starlette(routes=[Route('/', lambda request: PlainTextResponse('hi'))])\n"
    )
    port = free_port()
    env = stack.env(OTEL_SERVICE_NAME="pulled")
    command = [sys.executable, "-m", "telemetry", "run", "tiny:app", f"--port={port}"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    try:
        until(lambda: stack.answers(f"http://127.0.0.1:{port}/"))
        stack.wait_query('up{job="pulled"} == 1')
        stack.wait_query('http_server_request_duration_seconds_count{job="pulled",http_route="/"}')
        pulled = stack.query(f'{{job="pulled",instance="127.0.0.1:{port}"}}')
        names = {series["metric"]["__name__"] for series in pulled}
        assert names <= {
            "up",
            "scrape_duration_seconds",
            "scrape_samples_scraped",
            "scrape_samples_post_metric_relabeling",
            "scrape_series_added",
        }
        assert "up" in names
        (served,) = stack.query(
            'count(http_server_request_duration_seconds_count{job="pulled",http_route="/"})'
        )
        assert served["value"][1] == "1", "once, not twice"
    finally:
        process.terminate()
        process.wait(30)
    # A service that ended normally is not down: it is no longer a target.
    until(lambda: not stack.query('up{job="pulled"}'))


def test_host_metrics_arrive(stack: Stack) -> None:
    for name in (
        "system_cpu_utilization_ratio",
        "system_memory_utilization_ratio",
        "system_filesystem_utilization_ratio",
    ):
        stack.wait_query(f'{name}{{job="host"}}')
