"""Check whether the stack's processes are ready and whether data gets through."""

from __future__ import annotations

import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from telemetry.errors import TelemetryError
from telemetry.settings.stack import StackSettings
from telemetry.stack.processes import Process
from telemetry.system import json_http, ports
from telemetry.system.json_http import AnswerError

POLL_S = 0.05


def condition(url: str, tls: Path) -> str:
    """Read the state of a process from its health address.

    Args:
        url: the address.
        tls: folder of the stack's certificates.

    Returns:
        ``ready``, the text of the error reply, or "" if nothing answers.
    """
    try:
        answer = json_http.send(url, timeout_s=1.0, tls=tls)
    except AnswerError:
        return ""
    return "ready" if answer.status < 400 else answer.text or f"returns {answer.status}"


def note(url: str) -> str:
    """Return the note of a service that is ready; "" if it has none."""
    try:
        answer = json_http.get_json(url)
        return str(answer.get("note", ""))
    except (AnswerError, AttributeError):
        return ""


def started(process: Process, tls: Path) -> bool:
    """Return whether an engine is ready, or a service answers at all."""
    found = condition(process.ready, tls)
    return bool(found) if process.is_service else found == "ready"


def check_ports(processes: Iterable[Process], settings: StackSettings) -> None:
    """Check that every port is free and used once, and that the bridge address can be bound.

    Raises:
        TelemetryError: a port is taken or used twice, or the bridge address can't be bound; the
            message names the process that should have the port and, if known, the one that has it.
    """
    variables: dict[int, list[str]] = {}
    for name in settings.ports:
        key = f"TELEMETRY_{name.upper()}_PORT"
        variables.setdefault(settings.ports[name], []).append(key)
    seen: set[int] = set()
    for process in processes:
        for port in process.ports:
            keys = variables.get(port, [])
            if port in seen:
                raise TelemetryError(
                    f"{' and '.join(keys)} are both {port}",
                    remedy="set each to a different port",
                    exit_code=78,  # EX_CONFIG
                )
            seen.add(port)
            if not ports.bind_error("127.0.0.1", port):
                continue
            owner = ports.owner(port)
            raise TelemetryError(
                f"port {port}, which {process.name} needs, is taken" + (owner and f" by {owner}"),
                remedy="stop that process"
                + (f", or set {keys[0]} to another port" if keys else ""),
                exit_code=75,  # EX_TEMPFAIL
            )
    if address := settings.otlp_bridge_address:
        host, _, text = address.rpartition(":")
        if ports.bind_error(host, int(text)):
            raise TelemetryError(
                f"can't listen on TELEMETRY_OTLP_BRIDGE_ADDRESS={address!r}: the port is taken, or "
                "this machine doesn't have the address",
                remedy="set it to an address that `ip address` lists, or unset it if no container "
                "sends telemetry",
                exit_code=75,
            )


def collector_queues(url: str) -> list[float] | None:
    """Return the number of items in each of the collector's queues; None if it doesn't answer."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        answer = json_http.send(url, timeout_s=1.0)
    except AnswerError:
        return None
    if answer.status >= 400:
        return None
    return [
        sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.name.startswith("otelcol_exporter_queue_size")
    ]


def collector_drained(url: str, timeout_s: float) -> bool:
    """Wait until the collector's queues are empty; False if that takes too long."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        sizes = collector_queues(url)
        if sizes is None:
            return False  # it doesn't answer; its queue stays on disk
        if sum(sizes) == 0:
            return True
        time.sleep(0.1)
    return False


def check_round_trip(settings: StackSettings, timeout_s: float) -> bool:
    """Send one metric and one log record and wait until both can be read from their stores."""
    marker = uuid.uuid4().hex
    endpoint, tls = settings.urls["otlp_http"], settings.tls
    token = {"authorization": f"Bearer {settings.otlp_token}"}
    now = str(time.time_ns())
    resource = {"attributes": [_attribute("service.name", "telemetry-up")]}
    point = {"asDouble": 1, "timeUnixNano": now, "attributes": [_attribute("probe", marker)]}
    metric = {"name": "telemetry.probe", "gauge": {"dataPoints": [point]}}
    record = {"timeUnixNano": now, "severityNumber": 9, "body": {"stringValue": f"up {marker}"}}
    json_http.post_json(
        f"{endpoint}/v1/metrics",
        {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]},
        headers=token,
    )
    json_http.post_json(
        f"{endpoint}/v1/logs",
        {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]},
        headers=token,
    )
    query = urllib.parse.quote(f'telemetry_probe{{probe="{marker}"}}')
    line = urllib.parse.quote(f'{{service_name="telemetry-up"}} |= "{marker}"')
    metric_url = f"{settings.urls['prometheus']}/api/v1/query?query={query}"
    start = int(now) - 60 * 10**9
    log_url = f"{settings.urls['loki']}/loki/api/v1/query_range?query={line}&start={start}"
    return wait(lambda: _found(metric_url, tls) and _found(log_url, tls), timeout_s)


def wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until ``condition`` is true; False if that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def _found(url: str, tls: Path) -> bool:
    try:
        return bool(json_http.get_json(url, tls=tls)["data"]["result"])
    except (AnswerError, KeyError):
        return False
