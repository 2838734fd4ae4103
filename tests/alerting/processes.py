"""Prometheus and Alertmanager processes with the rendered files."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from telemetry.system import json_http
from tests.engines import engine
from tests.fixtures.stack import until
from tests.ports import free_port


def get(url: str, tls: Path | None = None) -> Any:
    """Get the JSON at ``url``; ``tls`` is the folder of an engine's certificates."""
    return json_http.get_json(url, tls=tls)


@contextmanager
def process(command: list[str], ready: str, log: Path, tls: Path | None = None) -> Iterator[None]:
    """Run ``command`` until the block ends; it is ready when ``ready`` answers 200."""
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output)

    def is_ready() -> bool:
        assert running.poll() is None, log.read_text()
        try:
            return json_http.send(ready, timeout_s=1, tls=tls).status == 200
        except OSError:
            return False

    try:
        until(is_ready)
        yield
    finally:
        running.terminate()
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """Run Alertmanager with ``folder``'s configuration; gives its address."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        engine("alertmanager"),
        f"--config.file={folder}/alertmanager.yaml",
        f"--storage.path={folder}/alertmanager",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]
    with process(command, f"{url}/-/ready", folder / "alertmanager.log"):
        yield url


@contextmanager
def prometheus(folder: Path, alertmanager_url: str) -> Iterator[str]:
    """Run Prometheus with ``folder``'s rules, OTLP and Alertmanager; gives its address.

    This waits until Prometheus has discovered Alertmanager, which happens after it is ready: an
    alert that fires earlier is not sent.
    """
    url = f"http://127.0.0.1:{free_port()}"
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["prometheus/*.rules.yaml"],
        "otlp": {"translation_strategy": "UnderscoreEscapingWithSuffixes"},
        "scrape_configs": [
            {
                "job_name": "prometheus",
                "static_configs": [{"targets": [url.removeprefix("http://")]}],
            }
        ],
        "alerting": {
            "alertmanagers": [
                {"static_configs": [{"targets": [alertmanager_url.removeprefix("http://")]}]}
            ]
        },
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    command = [
        engine("prometheus"),
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--web.enable-otlp-receiver",
    ]
    with process(command, f"{url}/-/ready", folder / "prometheus.log"):
        known = f"{url}/api/v1/alertmanagers"
        until(lambda: get(known)["data"]["activeAlertmanagers"], what="Alertmanager is known")
        yield url
