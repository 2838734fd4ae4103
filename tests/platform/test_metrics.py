"""`/metrics` of a working platform: every planned series, by name, labels and buckets."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from telemetry.services.platform.relay.admission import MAX_BODY_BYTES
from tests.fixtures.docker import IMAGE, DockerEngine
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import until
from tests.platform.conftest import ADMIN, IDLE
from tests.platform.test_series import gauge
from tests.platform.test_settings import Process

SERIES = {
    "platform_containers_total": ("gauge", {"status"}),
    "platform_container_up": ("gauge", {"handle"}),
    "platform_container_healthy": ("gauge", {"handle"}),
    "platform_container_cpu_percent": ("gauge", {"handle"}),
    "platform_container_memory_bytes": ("gauge", {"handle"}),
    "platform_container_memory_limit_bytes": ("gauge", {"handle"}),
    "platform_container_network_receive_bytes_total": ("counter", {"handle"}),
    "platform_container_network_transmit_bytes_total": ("counter", {"handle"}),
    "platform_container_restarts_total": ("counter", {"handle"}),
    "platform_container_oom_kills_total": ("counter", {"handle"}),
    "platform_provision_duration_seconds": ("histogram", {"outcome"}),
    "platform_destroy_duration_seconds": ("histogram", {"outcome"}),
    "platform_relay_connections": ("gauge", set()),
    "platform_relay_connections_refused_total": ("counter", {"reason"}),
    "platform_relay_refused_total": ("counter", {"handle", "reason"}),
    "platform_relay_dropped_total": ("counter", {"handle"}),
}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_next_process_continues_the_series(
    tmp_path: Path, otlp: Receiver, signum: signal.Signals
) -> None:
    """Otherwise every container counts twice, and alerts are resolved and fire again."""

    def series() -> set[tuple[str, str]]:
        return {
            (metric.name, attribute.value.string_value)
            for request in otlp.metrics
            for resource in request.resource_metrics
            for attribute in resource.resource.attributes
            if attribute.key == "service.instance.id"
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name.startswith("platform.containers")
        }

    def one_process() -> set[tuple[str, str]]:
        otlp.metrics.clear()
        process = Process(
            tmp_path / "home",
            OTEL_METRICS_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
            OTEL_METRIC_EXPORT_INTERVAL="200",
        )
        until(series)
        process.stop(signum)
        return series()

    first = one_process()
    assert len(first) == 1
    assert one_process() == first


def test_a_new_platform_declares_every_series_of_the_plan(tmp_path: Path) -> None:
    process = Process(tmp_path / "home")
    try:
        until(process.answers)
        text = httpx.get(f"{process.url}/metrics", headers=ADMIN).text
    finally:
        process.stop()
    assert dict(re.findall(r"^# TYPE (platform_\w+) (\w+)$", text, re.M)) == {
        name: kind for name, (kind, _) in SERIES.items()
    }


def exceed_limits(docker: DockerEngine, handle: str) -> None:
    """Exceed each kind of limit of a container, with its environment."""
    pairs = docker.client.containers.get(f"telemetry-{handle}").attrs["Config"]["Env"]
    environ = dict(pair.split("=", 1) for pair in pairs)
    name, _, token = unquote(environ["OTEL_EXPORTER_OTLP_HEADERS"]).partition("=")
    relay = f"{environ['OTEL_EXPORTER_OTLP_ENDPOINT']}/v1"
    headers = {name: token, "content-type": "application/x-protobuf"}
    with httpx.Client(headers=headers, timeout=60) as client:
        assert client.post(f"{relay}/metrics", content=gauge(["a"])).status_code == 200
        # The connection is kept; another one is one too many.
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{relay}/logs", headers=headers)
        too_large = bytes(MAX_BODY_BYTES + 1)
        assert client.post(f"{relay}/logs", content=too_large).status_code == 413


@pytest.mark.docker
def test_every_series_of_the_plan(empty_docker: DockerEngine, tmp_path: Path) -> None:
    process = Process(
        tmp_path / "home",
        DOCKER_HOST=empty_docker.base_url,
        TELEMETRY_PLATFORM_SAMPLE_INTERVAL="1",
        TELEMETRY_PLATFORM_RELAY_CONNECTIONS="1",
        TELEMETRY_PLATFORM_RELAY_SERIES="1",
    )

    def page() -> str:
        return httpx.get(f"{process.url}/metrics", headers=ADMIN).text

    def shown() -> dict[str, tuple[str, set[str]]]:
        text = page()
        kinds = dict(re.findall(r"^# TYPE (platform_\w+) (\w+)$", text, re.M))
        return {
            name: (kind, set(re.findall(r"(\w+)=", _labels(name, text))) - {"le"})
            for name, kind in kinds.items()
        }

    try:
        until(process.answers)
        for handle in ("ann", "bob"):
            body = {
                "handle": handle,
                "image": IMAGE,
                "command": IDLE,
                "memory_limit_bytes": 32 << 20,
                "health_check": {"command": ["true"], "interval_s": 0.5},
            }
            url = f"{process.url}/api/containers"
            answer = httpx.post(url, json=body, headers=ADMIN, timeout=60)
            assert answer.status_code == 201, answer.text
            exceed_limits(empty_docker, handle)
        httpx.delete(f"{url}/bob", headers=ADMIN, timeout=60).raise_for_status()
        until(lambda: 'handle="bob"' not in page(), what="the end of bob's series")
        until(lambda: shown() == SERIES, what="every series")
        text = page()
        assert 'handle="ann"' in text
        assert 'handle="bob"' not in text
        assert 'platform_container_memory_limit_bytes{handle="ann"} 33554432' in text
        for name in ("provision", "destroy"):
            bounds = re.findall(rf'platform_{name}_duration_seconds_bucket.*le="([^"]+)"', text)
            assert [float(bound) for bound in bounds] == [1, 5, 10, 30, 60, float("inf")]
    finally:
        process.stop()


def _labels(name: str, text: str) -> str:
    found = re.search(rf"^{name}(?:_bucket)?{{([^}}]*)}}", text, re.M)
    return found[1] if found else ""
