"""Whether the stack answers, and whether a signal gets through it."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from telemetry.errors import ConfigError, TelemetryError
from telemetry.settings import stack as stack_settings
from telemetry.stack.processes import Process
from telemetry.system import ports

POLL_S = 0.05


def answers(url: str, timeout_s: float = 1.0) -> bool:
    """Whether ``url`` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            return bool(response.status == 200)
    except (OSError, http.client.HTTPException, ValueError):
        return False


def get_json(url: str, timeout_s: float = 5.0, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON that ``url`` answers.

    Raises:
        OSError: it can't be reached or answers an error.
    """
    request = urllib.request.Request(url, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        return json.load(response)


def post_json(url: str, body: Any) -> None:
    """Send JSON.

    Raises:
        OSError: it can't be reached or answers an error.
    """
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5):
        pass


def condition(url: str) -> str:
    """How what answers at ``url`` is: ``ready``, what its body says is wrong, or "" where nobody
    answers."""
    try:
        with urllib.request.urlopen(url, timeout=1.0):
            return "ready"
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(300).decode(errors="replace").strip()
        return text or f"answers {error.code}"
    except (OSError, http.client.HTTPException, ValueError):
        return ""


def note(url: str) -> str:
    """What a service that is ready has to say all the same, "" for nothing."""
    try:
        answer = get_json(url)
        return str(answer.get("note", ""))
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        return ""


def started(process: Process) -> bool:
    """Whether an engine is ready; whether a service answers at all."""
    found = condition(process.ready)
    return bool(found) if process.is_service else found == "ready"


def check_ports(processes: Iterable[Process], environ: Mapping[str, str]) -> None:
    """Fail where a port is taken or wanted twice, or an address to listen on isn't this machine's.

    Raises:
        TelemetryError: names the port, whose it should be, and who has it where that is known.
    """
    variables: dict[int, list[str]] = {}
    for name in stack_settings.PORTS:
        key = f"TELEMETRY_{name.upper()}_PORT"
        variables.setdefault(stack_settings.port(name, environ), []).append(key)
    seen: set[int] = set()
    for process in processes:
        for port in process.ports:
            keys = variables.get(port, [])
            if port in seen:
                raise TelemetryError(
                    f"{' and '.join(keys)} are both {port}",
                    remedy="give each a port of its own",
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
    key = "TELEMETRY_OTLP_BRIDGE_ADDRESS"
    if address := environ.get(key):
        host, _, text = address.rpartition(":")
        if not host or not text.isdigit() or not 0 < int(text) < 65536:
            raise ConfigError(key, address, "an address with a port, such as 172.17.0.1:4318")
        if ports.bind_error(host, int(text)):
            raise TelemetryError(
                f"{key}={address!r} can't be listened on: the port is taken there, or the "
                "address is not this machine's",
                remedy="`ip address` lists this machine's addresses; unset it if no container "
                "sends telemetry",
                exit_code=75,
            )


def collector_queues(url: str) -> list[float] | None:
    """Items waiting in each of the collector's queues; None where it doesn't answer."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        with urllib.request.urlopen(url, timeout=1.0) as response:
            text = response.read().decode()
    except (OSError, http.client.HTTPException, ValueError):
        return None
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("otelcol_exporter_queue_size")
    ]


def see_signal(environ: Mapping[str, str], timeout_s: float) -> bool:
    """Send one metric and one log record and wait until both can be read in their stores."""
    marker = uuid.uuid4().hex
    endpoint = stack_settings.url("otlp_http", environ)
    now = str(time.time_ns())
    resource = {"attributes": [_attribute("service.name", "telemetry-up")]}
    point = {"asDouble": 1, "timeUnixNano": now, "attributes": [_attribute("probe", marker)]}
    metric = {"name": "telemetry.probe", "gauge": {"dataPoints": [point]}}
    record = {"timeUnixNano": now, "severityNumber": 9, "body": {"stringValue": f"up {marker}"}}
    post_json(f"{endpoint}/v1/metrics", {
        "resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]
    })  # fmt: skip
    post_json(f"{endpoint}/v1/logs", {
        "resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]
    })  # fmt: skip
    query = urllib.parse.quote(f'telemetry_probe{{probe="{marker}"}}')
    line = urllib.parse.quote(f'{{service_name="telemetry-up"}} |= "{marker}"')
    metric_url = f"{stack_settings.url('prometheus', environ)}/api/v1/query?query={query}"
    start = int(now) - 60 * 10**9
    log_url = (
        f"{stack_settings.url('loki', environ)}/loki/api/v1/query_range?query={line}&start={start}"
    )
    return wait(lambda: _found(metric_url) and _found(log_url), timeout_s)


def wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until ``condition`` holds; False where it didn't in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def _found(url: str) -> bool:
    try:
        return bool(get_json(url)["data"]["result"])
    except (OSError, ValueError, KeyError):
        return False
