"""Every alert is triggered by a real fault on the whole stack, and reaches the gateway."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from telemetry.system.tls import client_context
from tests.days import within_a_day
from tests.fixtures.docker import DockerEngine
from tests.fixtures.stack import until
from tests.fixtures.whole import Whole, whole_stack
from tests.ports import free_port

pytestmark = [pytest.mark.stack, pytest.mark.docker]

# The thresholds are the defaults; only durations are shortened. The gateway answers one message at
# a time, and its model is slow.
HASTE = {
    **{
        f"TELEMETRY_ALERT_{name}_FOR": "2s"
        for name in ("MEMORY", "SERVICE_DOWN", "ERROR", "UNHEALTHY", "ERROR_LINES", "DISK", "QUEUE")
    },
    "TELEMETRY_GATEWAY_CONCURRENCY": "1",
    "TELEMETRY_MODEL": "simulated-slow",
}
# Warnings are grouped for a minute, and log rules are evaluated once a minute.
NOTICE_TIMEOUT_S = 240.0
_MIB = 1 << 20
_GREEDY = "sleep 1; x=0123456789; while true; do x=$x$x; done"
# Shared memory counts as the container's, and the kernel can't reclaim it.
_FULL = "dd if=/dev/zero of=/dev/shm/full bs=1M count=60 2>/dev/null; exec sleep 3600"
_SHOP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"shop"})
"""
_ERRORS = """
import logging
import telemetry
telemetry.start(service_name="till")
for number in range(30):
    logging.getLogger("till").error("card %d refused", number)
telemetry.shutdown()
"""


class AlertRecorder:
    """Recorder of the alerts that the gateway receives: many are resolved before their test runs.

    Args:
        stack: the stack of the gateway.
    """

    def __init__(self, stack: Whole) -> None:
        self.alerts: dict[str, dict[str, Any]] = {}
        self.stack = stack
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._record)

    def __enter__(self) -> AlertRecorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _record(self) -> None:
        while not self._stop.wait(1):
            try:
                found = _alerts(self.stack)
            except httpx.TransportError:
                continue  # try again after a second
            for alert in found:
                self.alerts.setdefault(json.dumps(alert["labels"]), alert)


@pytest.fixture(scope="module")
def recorder(
    docker_engine: DockerEngine, simulated_upstream: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AlertRecorder]:
    """Recorder of a stack in which all faults were caused."""
    folder = tmp_path_factory.mktemp("trouble")
    within_a_day(180)
    with whole_stack(docker_engine, simulated_upstream, **HASTE) as stack, ExitStack() as undo:
        recorder = undo.enter_context(AlertRecorder(stack))
        undo.enter_context(_full_disk(folder / "disk"))
        _backlog(stack)
        _error_lines(stack)
        _lose_a_line(stack)
        _spend(stack)
        _fail(stack)
        _killed_app(stack, folder)
        _containers(stack)
        yield recorder


@pytest.fixture
def trouble(recorder: AlertRecorder) -> Whole:
    """The stack in which all faults were caused."""
    return recorder.stack


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    """Mount a small file system that is nearly full."""
    folder.mkdir()
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(32 * _MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, folder]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        free = shutil.disk_usage(folder).free
        (folder / "big").write_bytes(bytes(int(free * 0.9)))
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _backlog(stack: Whole) -> None:
    secret = stack.token("TELEMETRY_GATEWAY_TOKEN")

    def chat() -> None:
        try:
            httpx.post(
                f"{stack.url('gateway')}/api/chat",
                json={"message": "Tell me a tale of many words " * 10},
                headers={"authorization": f"Bearer {secret}"},
                timeout=400,
            )
        except httpx.TransportError:
            pass  # the tests have ended and stopped the stack

    for _ in range(30):
        threading.Thread(target=chat, daemon=True).start()


def _error_lines(stack: Whole) -> None:
    subprocess.run([sys.executable, "-c", _ERRORS], env=stack.env(), check=True, timeout=60)


def _lose_a_line(stack: Whole) -> None:
    old = str(time.time_ns() - 30 * 86_400 * 10**9)
    line = {"stream": {"service_name": "late"}, "values": [[old, "older than Loki takes"]]}
    url, context = f"{stack.loki_url}/loki/api/v1/push", client_context(stack.tls)
    answer = httpx.post(url, json={"streams": [line]}, verify=context)
    assert answer.status_code == 400


def _spend(stack: Whole) -> None:
    """Make calls with high costs, a nearly spent budget, refusals and an unpriced model."""
    assert stack.call(stack.key("rich"), simulated="input=4000000").is_success
    assert stack.call(stack.key("near", daily_budget_usd=1), simulated="input=310000").is_success
    keen = stack.key("keen", requests_per_minute=1)
    answers = [stack.call(keen).status_code for _ in range(23)]
    assert answers.count(429) > Thresholds().quota_rejections
    assert stack.call(stack.key("odd"), "llama-of-nobody").is_success


def _fail(stack: Whole) -> None:
    unlucky = stack.key("unlucky")
    answers = [stack.call(unlucky, "gpt-4.1", "status=500").status_code for _ in range(15)]
    assert set(answers) == {500}


def _killed_app(stack: Whole, folder: Path) -> None:
    """Run an app under `telemetry run`, and kill all its processes."""
    (folder / "shop.py").write_text(_SHOP)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "telemetry", "run", "shop:app", f"--port={port}"],
        cwd=folder,
        env=stack.env(OTEL_SERVICE_NAME="shop"),
        start_new_session=True,
    )
    try:
        stack.wait_query('up{job="shop"} == 1')
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _containers(stack: Whole) -> None:
    ill = {"command": ["false"], "interval_s": 1, "retries": 1}
    stack.provision("stopped")
    stack.provision("killed")
    stack.provision("greedy", "sh", "-c", _GREEDY, memory_limit_bytes=16 * _MIB)
    stack.provision("full", "sh", "-c", _FULL, memory_limit_bytes=64 * _MIB)
    stack.provision("loops", "sh", "-c", "sleep 0.2; exit 1", restart_policy="always")
    stack.provision("ill", health_check=ill)
    for handle in ("stopped", "killed"):
        stack.wait_query(f'platform_container_up{{handle="{handle}"}} == 1')
    assert stack.ask("platform", "POST", "/api/containers/stopped/stop").is_success
    stack.container("killed").kill()


def _alerts(stack: Whole) -> list[dict[str, Any]]:
    answer = stack.ask("gateway", "GET", "/api/alerts", token="GATEWAY")
    assert answer.is_success, answer.text
    return list(answer.json()["alerts"])


def _of(alerts: Iterable[dict[str, Any]], name: str, **labels: str) -> list[dict[str, Any]]:
    return [a for a in alerts if a["name"] == name and labels.items() <= a["labels"].items()]


def firing(stack: Whole, name: str, **labels: str) -> list[dict[str, Any]]:
    """Read the gateway's firing alerts with this name and these labels."""
    return _of(_alerts(stack), name, **labels)


CASES: dict[str, dict[str, str]] = {
    "ContainerDown": {"handle": "killed"},
    "ContainerOOMKilled": {"handle": "greedy"},
    "ContainerOOM": {"handle": "full"},
    "ContainerRestartLoop": {"handle": "loops"},
    "ContainerUnhealthy": {"handle": "ill"},
    "ServiceDown": {"job": "shop"},
    "HighErrorRate": {"job": "proxy"},
    "DispatchQueueBacklog": {"job": "gateway"},
    "HighCostRate": {"user_id": "rich"},
    "BudgetNearlySpent": {"user_id": "near"},
    "QuotaRejections": {"user_id": "keen"},
    "UnpricedModel": {"model": "llama-of-nobody"},
    "TelemetryLoss": {"job": "loki"},
    "DiskSpaceLow": {},
    "ErrorLogBurst": {"service_name": "till"},
}


@pytest.mark.parametrize("name", CASES)
def test_alert_reaches_the_gateway_with_complete_texts(
    recorder: AlertRecorder, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    labels = CASES[name]
    if name == "DiskSpaceLow":
        labels = {"mountpoint": str(next(tmp_path_factory.getbasetemp().glob("trouble*/disk")))}
    [alert] = until(
        lambda: _of(tuple(recorder.alerts.values()), name, **labels),
        NOTICE_TIMEOUT_S,
        f"{name} {labels}",
    )
    rule = next(rule for rule in all_rules(Thresholds()) if rule.name == name)
    assert alert["severity"] == rule.severity
    # Every template is filled in.
    for text in (alert["summary"], alert["description"], alert["value"]):
        assert text
        assert "<no value>" not in text
        assert "{{" not in text
    assert alert["links"]["runbook"].endswith(f"#{name.lower()}")
    assert "/d/" in alert["links"]["dashboard"]


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == {rule.name for rule in all_rules(Thresholds())}


def test_container_stopped_on_request_fires_no_alert(trouble: Whole) -> None:
    # The other container was killed later, and a rule of the same group fires for it.
    until(lambda: firing(trouble, "ContainerDown", handle="killed"), NOTICE_TIMEOUT_S)
    assert not firing(trouble, "ContainerDown", handle="stopped")
    assert not trouble.query('ALERTS{handle="stopped"}')


def test_container_down_fires_until_the_container_is_started_or_removed(trouble: Whole) -> None:
    for handle in ("killed", "greedy"):
        until(
            lambda handle=handle: firing(trouble, "ContainerDown", handle=handle), NOTICE_TIMEOUT_S
        )
    assert trouble.ask("platform", "POST", "/api/containers/killed/start").is_success
    assert trouble.ask("platform", "DELETE", "/api/containers/greedy").is_success
    for handle in ("killed", "greedy"):
        until(
            lambda handle=handle: not firing(trouble, "ContainerDown", handle=handle),
            what=f"{handle} resolved",
        )


def test_alerts_list_shows_firing_alerts(trouble: Whole) -> None:
    wanted = (("ContainerRestartLoop", "handle=loops"), ("HighCostRate", "user_id=rich"))
    for name, _ in wanted:
        until(lambda name=name: firing(trouble, name, **CASES[name]), NOTICE_TIMEOUT_S, name)
    listed = trouble.run("alerts", "list", COLUMNS="200").stdout.splitlines()
    for name, where in wanted:
        [line] = [line for line in listed if name in line and where in line]
        assert "firing" in line
