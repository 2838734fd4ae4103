"""What a page in the browser and another user of the machine can do with a running stack."""

from __future__ import annotations

import glob
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from telemetry.settings import credentials
from telemetry.stack import supervisor_client
from telemetry.stack.state_folder import StateFolder
from telemetry.system.tls import client_context
from tests.fixtures.simulated import served
from tests.fixtures.stack import Stack, until
from tests.ports import free_ports

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture(scope="module")
def doors() -> Iterator[Stack]:
    """A stack with its services, in a folder whose parents anyone can enter."""
    with TemporaryDirectory(prefix="doors") as folder:
        os.chmod(folder, 0o755)
        stack = Stack(Path(folder) / "home", free_ports())
        stack.run("up")
        yield stack
        stack.run("down")


# --- a page in the browser ----------------------------------------------------------------------

# Tries every address by every scheme, once so that the answer could be read and once so that it
# only has an effect. Gives what could be read.
_ATTACK = """
async ([addresses, log]) => {
  const found = [], json = {'content-type': 'application/json'}
  const send = async (url, options) => {
    try {
      const answer = await fetch(url, {...options, signal: AbortSignal.timeout(5000)})
      if (answer.type !== 'opaque') found.push(`${url}: ${(await answer.text()).slice(0, 200)}`)
    } catch {}
  }
  for (const [path, body] of addresses)
    for (const url of [`http://${path}`, `https://${path}`])
      for (const mode of ['cors', 'no-cors']) {
        await send(url, {mode, credentials: 'include'})
        if (body) {
          await send(url, {mode, method: 'POST', body, credentials: 'include'})
          if (mode === 'cors')
            await send(url, {mode, method: 'POST', body, headers: json})
        }
      }
  return found
}
"""


def _evil(request: Request) -> HTMLResponse:
    return HTMLResponse("<!doctype html><title>evil</title><body></body>")


def _addresses(stack: Stack) -> list[tuple[str, str]]:
    now = time.time_ns()
    silence = {
        "matchers": [{"name": "alertname", "value": ".+", "isRegex": True}],
        "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2040-01-01T00:00:00Z",
        "createdBy": "evil",
        "comment": "evil",
    }
    alert = [{"labels": {"alertname": "Forged", "severity": "critical"}}]
    line = {"stream": {"service_name": "forged"}, "values": [[str(now), "forged"]]}
    point = {"asDouble": 999, "timeUnixNano": str(now)}
    metric = {"name": "forged", "gauge": {"dataPoints": [point]}}
    otlp = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    wanted = [
        ("prometheus", "/api/v1/query?query=up", ""),
        ("prometheus", "/api/v1/otlp/v1/metrics", json.dumps(otlp)),
        ("prometheus", "/-/quit", "x"),
        ("loki", "/loki/api/v1/query?query=%7Bservice_name%3D~%22.%2B%22%7D", ""),
        ("loki", "/loki/api/v1/push", json.dumps({"streams": [line]})),
        ("loki", "/loki/api/v1/delete?query=%7Bservice_name%3D~%22.%2B%22%7D&start=1", "x"),
        ("loki", "/ingester/shutdown", "x"),
        ("loki", "/flush", "x"),
        ("loki", "/ring", ""),
        ("alertmanager", "/api/v2/silences", json.dumps(silence)),
        ("alertmanager", "/api/v2/alerts", json.dumps(alert)),
        ("otlp_http", "/v1/metrics", json.dumps(otlp)),
        ("gateway", "/api/alerts", ""),
        ("gateway", "/api/chat", json.dumps({"message": "forged"})),
        ("gateway", "/api/alert", json.dumps({"alerts": alert})),
        ("gateway", "/metrics", ""),
        ("platform", "/api/containers", json.dumps({"handle": "forged", "image": "x"})),
        ("platform", "/metrics", ""),
        ("proxy", "/api/keys", json.dumps({"user_id": "forged"})),
        ("proxy", "/metrics", ""),
        ("proxy", "/health", ""),
    ]
    return [(f"127.0.0.1:{stack.ports[name]}{path}", body) for name, path, body in wanted]


@pytest.mark.browser
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_page_of_another_origin_reads_and_changes_nothing(
    doors: Stack, browser: Browser, host: str
) -> None:
    """On another port of 127.0.0.1, which browsers take for the same site, and on another site."""
    before = until(lambda: doors.logs('{service_name="proxy"}'), what="a line to delete")
    started = {name: doors.pid(name) for name in ("prometheus", "loki", "alertmanager")}
    context = browser.new_context()
    try:
        page = context.new_page()
        with served(Starlette(routes=[Route("/", _evil)])) as url:
            page.goto(url.replace("127.0.0.1", host))
            read = page.evaluate(_ATTACK, [_addresses(doors), ""])
    finally:
        context.close()
    # The engines' and the Collector's refusals of plain HTTP have no CORS headers either.
    assert read == []
    alertmanager = f"{doors.url('alertmanager')}/api/v2"
    assert doors.get(f"{alertmanager}/silences") == []
    names = {alert["labels"]["alertname"] for alert in doors.get(f"{alertmanager}/alerts")}
    assert "Forged" not in names
    assert {name: doors.pid(name) for name in started} == started, "none was stopped"
    assert doors.logs('{service_name="proxy"}')[: len(before)] == before, "none was deleted"
    assert not doors.logs('{service_name="forged"}')
    assert not doors.query("forged")
    admin = {"authorization": f"Bearer {_secret(doors, credentials.ADMIN_TOKEN.variable)}"}
    keys = httpx.get(f"{doors.url('proxy')}/api/keys", headers=admin).json()
    assert "forged" not in json.dumps(keys)
    assert not list((doors.home / "logs").glob("*.jsonl")), "nobody asked the gateway"


@pytest.mark.browser
@pytest.mark.parametrize(("service", "path"), [("platform", "/admin"), ("gateway", "/")])
def test_page_cannot_be_framed(doors: Stack, browser: Browser, service: str, path: str) -> None:
    target = f"{doors.url(service)}{path}"

    def framing(request: Request) -> HTMLResponse:
        return HTMLResponse(f'<!doctype html><iframe src="{target}"></iframe>')

    context = browser.new_context()
    try:
        page = context.new_page()
        with served(Starlette(routes=[Route("/", framing)])) as url:
            page.goto(url)
            _, frame = page.frames
            assert frame.url.startswith("chrome-error://")
    finally:
        context.close()


@pytest.mark.parametrize("service", ["gateway", "platform", "proxy"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/health", "/api/keys"])
def test_other_host_names_are_refused(doors: Stack, service: str, path: str) -> None:
    """As after DNS rebinding, when a page reads answers as those of its own origin."""
    answer = httpx.get(f"{doors.url(service)}{path}", headers={"host": "evil.example"})
    assert answer.status_code == 421


# --- another user of the machine ----------------------------------------------------------------


def _secret(stack: Stack, variable: str) -> str:
    return credentials.ensure(stack.home, {})[variable]


def _send(url: str, body: Any = None, **headers: str) -> tuple[int, str]:
    """Send a request without a certificate; (0, "") without an answer."""
    data = None if body is None else json.dumps(body).encode()
    typed = {"content-type": "application/json", **headers}
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    request = urllib.request.Request(url, data, typed)
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


def _outcome(status: int) -> str:
    return "answered" if status in (200, 201, 204) else "refused"


def _engine(stack: Stack, name: str, path: str, body: Any = None) -> str:
    port = stack.ports[name]
    found = {_send(f"{scheme}://127.0.0.1:{port}{path}", body)[0] for scheme in ("http", "https")}
    # 400: an HTTP request to an HTTPS server.
    return "refused" if found <= {0, 400} else f"answered {found}"


def _grpc(stack: Stack) -> str:
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["h2"])
    address = ("127.0.0.1", stack.ports["loki_grpc"])
    try:
        with (
            socket.create_connection(address, 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            # With TLS 1.3 the client's part of the handshake ends before the server refuses.
            secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            return "answered" if secure.recv(1) else "refused"
    except OSError:
        return "refused"


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return "answered" if file.read(1) else "refused"
    except OSError:
        return "refused"


def _ask_supervisor(stack: Stack) -> str:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(StateFolder(stack.home).socket))
            return "answered"
    except OSError:
        return "refused"


def _command_lines(known: list[str]) -> str:
    lines = b""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with suppress(OSError), open(path, "rb") as file:
            lines += file.read()
    return "found" if any(secret.encode() in lines for secret in known) else "none"


def _otlp(stack: Stack, service: str, metric: str) -> str:
    point = {"asDouble": 999, "timeUnixNano": str(time.time_ns())}
    name = {"key": "service.name", "value": {"stringValue": service}}
    group = {
        "resource": {"attributes": [name]},
        "scopeMetrics": [{"metrics": [{"name": metric, "gauge": {"dataPoints": [point]}}]}],
    }
    status, _ = _send(f"{stack.otlp_http}/v1/metrics", {"resourceMetrics": [group]})
    return "accepted" if status == 200 else "refused"


def _attempts(stack: Stack, pid: int, known: list[str]) -> dict[str, str]:
    """Try everything; runs as another user, with nothing that must be imported yet."""
    services = [stack.url(name) for name in ("gateway", "platform", "proxy")]
    pages = [_send(f"{url}/metrics") for url in services]
    shown = [line for _, text in pages for line in text.splitlines() if not line.startswith("#")]
    without = "answered without series" if {200} == {s for s, _ in pages} else "refused"
    every = "%7Bservice_name%3D~%22.%2B%22%7D"
    return {
        "read metrics from Prometheus": _engine(stack, "prometheus", "/api/v1/query?query=up"),
        "write metrics to Prometheus": _engine(stack, "prometheus", "/api/v1/otlp/v1/metrics", {}),
        "read logs from Loki": _engine(stack, "loki", f"/loki/api/v1/query?query={every}"),
        "write logs to Loki": _engine(stack, "loki", "/loki/api/v1/push", {"streams": []}),
        "delete logs from Loki": _engine(stack, "loki", f"/loki/api/v1/delete?query={every}", {}),
        "stop Loki": _engine(stack, "loki", "/ingester/shutdown", {}),
        "speak to Loki by gRPC": _grpc(stack),
        "silence alerts in Alertmanager": _engine(stack, "alertmanager", "/api/v2/silences", {}),
        "send alerts to Alertmanager": _engine(stack, "alertmanager", "/api/v2/alerts", []),
        "send telemetry as an app": _otlp(stack, "nobodys", "nobodys_metric"),
        "send telemetry as the proxy": _otlp(stack, "proxy", "nobodys_claim"),
        "send a metric of the proxy's": _otlp(stack, "nobodys", "proxy_user_cost_today_usd"),
        "read the Collector's own metrics": _outcome(
            _send(f"http://127.0.0.1:{stack.ports['collector_metrics']}/metrics")[0]
        ),
        # The platform reports that there is no Docker here.
        "read the services' health": _outcome(_send(f"{stack.url('proxy')}/health")[0]),
        "read the services' metrics": "series" if shown else without,
        "use the gateway": _outcome(_send(f"{services[0]}/api/chat", {"message": "x"})[0]),
        "use the platform": _outcome(_send(f"{services[1]}/api/containers")[0]),
        "use the proxy": _outcome(_send(f"{services[2]}/api/keys")[0]),
        "send an alert to the gateway": _outcome(_send(f"{services[0]}/api/alert", {})[0]),
        "read the secrets": _read(str(stack.home / credentials.FILE)),
        "read the certificates": _read(str(stack.tls / "stack.pem")),
        "read the logs in the state folder": _read(str(stack.home / "output" / "supervisor.log")),
        "ask the supervisor": _ask_supervisor(stack),
        "read a process' environment": _read(f"/proc/{pid}/environ"),
        "find a secret in a command line": _command_lines(known),
    }


def _as_nobody(attempts: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Call a function in a child process of another user."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            found = json.dumps(attempts())
        except BaseException as error:
            found = json.dumps({"failed": repr(error)})
        os.write(writing, found.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.waitpid(child, 0)
    result: dict[str, str] = json.loads(text)
    return result


def _documented() -> dict[str, str]:
    text = (ROOT / "docs" / "security.md").read_text()
    section = text.partition("## Another user of this machine")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.M)
    return dict(rows[2:] if rows[1][0].startswith("---") else rows[1:])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_can_do_what_the_documentation_says(doors: Stack) -> None:
    rows = supervisor_client.ask(StateFolder(doors.home))["processes"]
    pid = next(row["pid"] for row in rows if row["name"] == "proxy")
    known = [_secret(doors, name) for name in credentials.GENERATED]
    found = _as_nobody(lambda: _attempts(doors, pid, known))
    # How it was accepted only the stack can see.
    (series,) = doors.wait_query('{__name__="nobodys_claim"}')
    found["send telemetry as the proxy"] += f" as {series['metric']['job']}"
    (series,) = doors.wait_query('{job="nobodys", __name__=~".*user_cost.*"}')
    found["send a metric of the proxy's"] += f" as {series['metric']['__name__']}"
    assert found == _documented()


def test_engines_do_nothing_dangerous_even_for_the_stack(doors: Stack) -> None:
    """Grafana forwards its users' requests to any address of a data source."""
    context = client_context(doors.tls)
    with httpx.Client(verify=context) as client:
        for name, path in (
            ("prometheus", "/-/quit"),
            ("prometheus", "/-/reload"),
            ("prometheus", "/api/v1/admin/tsdb/snapshot"),
            ("loki", "/loki/api/v1/delete?query={a=%22b%22}&start=1"),
        ):
            answer = client.post(f"{doors.url(name)}{path}")
            assert answer.status_code >= 400, path
        origin = {"origin": "http://evil.example"}
        answer = client.get(f"{doors.prometheus_url}/api/v1/labels", headers=origin)
        assert "access-control-allow-origin" not in answer.headers
