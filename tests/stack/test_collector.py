"""The collector's pipeline with real engines: files in, secrets out, few labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry import files
from telemetry.stack import engines, ready
from tests.fixtures.otlp import Receiver
from tests.fixtures.stack import Stack, free_ports, until

pytestmark = pytest.mark.stack

DOCKER = "TELEMETRY_DOCKER_CONTAINERS"


class Containers:
    """A folder as Docker's json-file driver writes it.

    Args:
        folder: stands for /var/lib/docker/containers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def write(self, name: str, *pieces: str, **attrs: str) -> None:
        """Append what a container printed; a piece without a line feed is one that Docker cut."""
        path = self.folder / name / f"{name}-json.log"
        path.parent.mkdir(exist_ok=True)
        with open(path, "a") as file:
            for piece in pieces:
                at = datetime.now(UTC).isoformat().replace("+00:00", "123Z")
                row: dict[str, Any] = {"log": piece, "stream": "stdout", "time": at}
                if attrs:
                    row["attrs"] = attrs
                file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def tailing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Containers]]:
    """A stack that reads a folder of container logs of the tests' own."""
    home = tmp_path_factory.mktemp("tailing")
    containers = Containers(home / "containers")
    stack = Stack(home / "home", free_ports())
    stack.run("up", "--no-services", **{DOCKER: str(containers.folder)})
    yield stack, containers
    stack.run("down")


def lines(stack: Stack, logql: str, count: int) -> list[dict[str, Any]]:
    """The entries once there are ``count``, and no more."""
    found = stack.wait_logs(logql, lambda entries: len(entries) >= count)
    assert len(found) == count, found
    return found


def send_log(stack: Stack, service: str, body: str, **attributes: str) -> None:
    record = {
        "timeUnixNano": str(time.time_ns()),
        "severityNumber": 13,
        "body": {"stringValue": body},
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()],
    }
    resource = [
        {"key": key, "value": {"stringValue": value}}
        for key, value in {
            "service.name": service,
            "service.instance.id": "instance-1",
            "process.pid": "77",
            "host.name": "machine",
        }.items()
    ]
    sent = {"resource": {"attributes": resource}, "scopeLogs": [{"logRecords": [record]}]}
    ready.post_json(f"{stack.otlp_http}/v1/logs", {"resourceLogs": [sent]})


# --- the configurations are valid ----------------------------------------------------------------


def _validate(*configs: str, **environ: str) -> subprocess.CompletedProcess[str]:
    program = engines.ensure(engines.table()["collector"], os.environ)
    given = {"TELEMETRY_HOME": "/x", "TELEMETRY_COLLECTOR_DATA": "/x", "TELEMETRY_OTLP_TOKEN": "t"}
    return subprocess.run(
        [program, "validate", *(f"--config={files.path(name)}" for name in configs)],
        env={"PATH": os.environ["PATH"], **given, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_collector_takes_its_configuration() -> None:
    done = _validate("collector/config.yaml")
    assert done.returncode == 0, done.stderr
    traced = _validate(
        "collector/config.yaml",
        "collector/traces.yaml",
        TELEMETRY_TRACES_ENDPOINT="http://127.0.0.1:4319",
    )
    assert traced.returncode == 0, traced.stderr


def test_prometheus_takes_its_configuration(stack: Stack) -> None:
    prometheus = engines.table()["prometheus"]
    engines.ensure(prometheus, os.environ)
    promtool = engines.cached(prometheus, os.environ, "promtool")
    assert promtool is not None
    written = stack.home / "config" / "prometheus.yaml"
    for command in (
        [promtool, "check", "config", written],
        [
            promtool,
            "check",
            "config",
            "--syntax-only",
            files.path("compose/prometheus/prometheus.yaml"),
        ],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


# --- labels --------------------------------------------------------------------------------------


def test_loki_gets_few_labels_and_the_rest_as_metadata(stack: Stack) -> None:
    send_log(stack, "labelled", "a line", order_id="17")
    (entry,) = lines(stack, '{service_name="labelled"}', 1)
    series = ready.get_json(
        f"{stack.loki_url}/loki/api/v1/series?match[]=%7Bservice_name%3D%22labelled%22%7D"
    )
    assert series["data"] == [{"service_name": "labelled", "level": "warn"}]
    # Still there to look at and to filter by, without a stream each.
    assert entry["labels"]["service_instance_id"] == "instance-1"
    assert entry["labels"]["order_id"] == "17"
    assert entry["labels"]["process_pid"] == "77"


def test_every_stream_has_no_other_labels(stack: Stack) -> None:
    send_log(stack, "any", "a line")
    lines(stack, '{service_name="any"}', 1)
    labels = ready.get_json(f"{stack.loki_url}/loki/api/v1/labels")["data"]
    assert set(labels) <= {"service_name", "handle", "level", "deployment_environment"}


# --- secrets -------------------------------------------------------------------------------------

LETTERS = "aZ3bY4cX5dW6eV7fU8gT9hS1iR2jQ3kP4lO5mN6"
PEM = "-----BEGIN RSA PRIVATE KEY-----\n{}\nl2k4\n-----END RSA PRIVATE KEY-----"
SECRET = [
    ("key", "calling with sk-ant-api03-abcdefghijklmnop", "abcdefghijklmnop"),
    ("password", "login password=hunter22 failed", "hunter22"),
    ("url", "connecting to postgres://app:s3cretpass@db/app", "s3cretpass"),
    ("bearer", "authorization: Bearer abcdef0123456789", "abcdef0123456789"),
    ("jwt", "got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "eyJzdWIiOiIxIn0"),
    ("github", "pushed with ghp_abcdefghijklmnopqrst1234", "ghp_abcdefghij"),
    ("json", '{"api_key": "0123456789abcdef"}', "0123456789abcdef"),
    ("basic", "said Basic YW5uOmh1bnRlcjI=", "YW5uOmh1bnRlcjI"),
    ("basic-header", "Proxy-Authorization: Basic YW5uOmh1bnRlcjI=", "YW5uOmh1bnRlcjI"),
    ("plain-header", "authorization: hunter22", "hunter22"),
    ("cookie", "Cookie: session=hunter22; theme=dark9", "dark9"),
    ("set-cookie", "set-cookie: a=1; id=hunter22; HttpOnly", "hunter22"),
    ("cookie-in-json", '{"cookie": "a=1; id=hunter22", "n": 1}', "hunter22"),
    ("cookie-in-repr", "{'cookie': b'a=1; id=hunter22', 'n': 1}", "hunter22"),
    ("header-in-a-pair", "[(b'cookie', b'a=1; id=hunter22')]", "hunter22"),
    ("pem", f"read {PEM.format('MIIEowIBAAKCAQEA7bq5')} done", "MIIEowIBAAKCAQEA7bq5"),
    ("cut-pem", f"read {PEM.format('MIIEowIBAAKCAQEA7bq5')[:60]}", "MIIEowIB"),
    # Spelled in parts, so that those who scan repositories for keys don't stumble over them.
    ("stripe", "charged with " + "sk_" + "live_" + LETTERS[:24], LETTERS[:24]),
    ("stripe-restricted", "charged with " + "rk_" + "live_" + LETTERS[:24], LETTERS[:24]),
    ("slack-hook", "posted to https://hooks.slack.com/services/T0/B0/xyzzy9", "xyzzy9"),
    ("discord-hook", "posted to https://discord.com/api/webhooks/12/xyzzy9", "xyzzy9"),
    (
        "telegram",
        "POST https://api.telegram.org/bot1234567890:" + "AA" + LETTERS[:33],
        LETTERS[:33],
    ),
    ("gitlab", "cloned with gl" + "pat-" + LETTERS[:20], LETTERS[:20]),
    ("npm", "published with np" + "m_" + LETTERS[:36], LETTERS[:36]),
    ("hugging-face", "loaded with h" + "f_" + LETTERS[:34], LETTERS[:34]),
    ("google", "mapped with AI" + "za" + LETTERS[:35], LETTERS[:35]),
    ("pypi", "uploaded with py" + "pi-" + LETTERS * 2, LETTERS),
]
ORDINARY = [
    '127.0.0.1:51334 - "GET /items/1?page=2 HTTP/1.1" 200',
    "Basic understanding of bearer authentication is required",
    "Basic Authentication failed for the bearer instruments",
    "Bring a cookie, please; cookies are fine too",
    "the authorization was refused, its author unknown",
    "sk-learn-based-classifier-for-text trained by task-runner-of-the-night-0001",
    "-----BEGIN CERTIFICATE----- MIIB -----END CERTIFICATE-----",
    "see https://hooks.slack.com/docs and https://discord.com/api/v10",
    "12:34:56 took 1.5 s: ok; 12345:ABC is no bot",
    "the hf_hub and npm_config_cache and pypi-server of glpat",
    "tokens_in=512 tokensOut=128 max_tokens: 4096",
    "commit 884e7d4f0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "password must have 12 characters",
]


@pytest.mark.parametrize(("name", "text", "secret"), SECRET, ids=[name for name, *_ in SECRET])
def test_secrets_do_not_get_through(stack: Stack, name: str, text: str, secret: str) -> None:
    """In a line and in an attribute, whatever sent it."""
    service = f"secret-{name}"
    send_log(stack, service, text, note=text)
    (entry,) = lines(stack, f'{{service_name="{service}"}}', 1)
    assert secret not in json.dumps(entry)
    assert text.split()[0].strip('{":') in entry["line"], "the rest of the line stays"


def test_ordinary_text_is_left_alone(stack: Stack) -> None:
    for text in ORDINARY:
        send_log(stack, "ordinary", text, note=text)
    found = lines(stack, '{service_name="ordinary"}', len(ORDINARY))
    assert [entry["line"] for entry in found] == ORDINARY
    assert [entry["labels"]["note"] for entry in found] == ORDINARY


def test_a_key_that_a_container_prints_line_by_line_is_known_for_one(
    tailing: tuple[Stack, Containers],
) -> None:
    stack, containers = tailing
    key = PEM.format("\n".join((LETTERS * 4)[:64] for _ in range(3)))
    containers.write("c11", "before\n", *key.splitlines(keepends=True), "\n", handle="kate")
    containers.write("c11", "after\n", handle="kate")
    stack.wait_logs('{service_name="container", handle="kate"} |= "after"')
    found = stack.logs('{service_name="container", handle="kate"}')
    assert LETTERS[:20] not in json.dumps(found)


def test_an_attribute_with_a_secret_s_name_is_masked(stack: Stack) -> None:
    send_log(stack, "masked", "a line", db_password="hunter22", tokensIn="12")
    (entry,) = lines(stack, '{service_name="masked"}', 1)
    assert "hunter22" not in json.dumps(entry)
    assert entry["labels"]["tokensIn"] == "12", "a number of tokens is no secret"


# --- what the platform's relay passes on --------------------------------------------------------

RELAYED = {"x-telemetry-handle": "ann"}


def send_as(stack: Stack, service: str, headers: dict[str, str]) -> None:
    """A line and a gauge that claim to be bob's, in their resource and in themselves."""
    claimed = [{"key": "handle", "value": {"stringValue": "bob"}}]
    name = [{"key": "service.name", "value": {"stringValue": service}}] if service else []
    record = {"timeUnixNano": str(time.time_ns()), "attributes": claimed}
    log = {
        "resource": {"attributes": [*name, *claimed]},
        "scopeLogs": [{"logRecords": [{**record, "body": {"stringValue": f"as {service}"}}]}],
    }
    job = [{"key": "job", "value": {"stringValue": "proxy"}}] if not service else []
    point = {**record, "asInt": "1", "attributes": [*claimed, *job]}
    gauge = {"name": "claimed", "gauge": {"dataPoints": [point]}}
    metric = {"resource": log["resource"], "scopeMetrics": [{"metrics": [gauge]}]}
    for signal, body in (
        ("logs", {"resourceLogs": [log]}),
        ("metrics", {"resourceMetrics": [metric]}),
    ):
        answer = httpx.post(f"{stack.otlp_http}/v1/{signal}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("claimed", "stored"),
    [
        ("shop", "shop"),
        ("gateway", "gateway"),
        ("proxy", "ann/proxy"),
        ("platform", "ann/platform"),
        ("host", "ann/host"),
        ("", "ann"),
    ],
)
def test_what_a_container_sends_is_its_own_whatever_it_claims(
    stack: Stack, claimed: str, stored: str
) -> None:
    send_as(stack, claimed, RELAYED)
    (entry,) = lines(stack, f'{{handle="ann"}} |= "as {claimed}" | service_name="{stored}"', 1)
    assert entry["labels"]["handle"] == "ann"
    stack.wait_query(f'claimed{{job="{stored}", handle="ann"}}')
    names = f"{claimed or 'proxy'}|{stored}"
    assert not stack.query(f'claimed{{handle="bob", job=~"{names}"}}')
    assert not stack.logs(f'{{handle="bob", service_name=~"{names}"}} |= "as {claimed}"')


def test_who_sends_without_the_relay_is_believed(stack: Stack) -> None:
    """What the proxy meters for bob is bob's."""
    send_as(stack, "believed", {})
    lines(stack, '{service_name="believed", handle="bob"}', 1)
    stack.wait_query('claimed{job="believed", handle="bob"}')


# --- files ---------------------------------------------------------------------------------------


def _dispatch(**fields: Any) -> str:
    row = {
        "timestamp": datetime.now(UTC).isoformat(),
        "source": "web",
        "sessionId": "s1",
        "prompt": "how is my container?",
        "toolsUsed": ["query_metrics"],
        "tokensIn": 10,
        "tokensOut": 20,
        "costUsd": 0.001,
        "durationMs": 12.5,
        "result": "fine",
        "handle": "alice",
        "model": "claude-sonnet-4-5",
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "status": "ok",
        **fields,
    }
    return json.dumps(row) + "\n"


def test_the_interaction_log_arrives_with_its_fields(tailing: tuple[Stack, Containers]) -> None:
    stack, _ = tailing
    with open(stack.home / "logs" / "2026-01-02.jsonl", "a") as file:
        file.write(_dispatch())
        file.write(_dispatch(status="error", prompt="my password=hunter22 please"))
    good, bad = lines(stack, '{service_name="gateway"} | log_source="interactions"', 2)
    assert json.loads(good["line"])["result"] == "fine"
    assert good["labels"]["handle"] == "alice"
    assert good["labels"]["level"] == "info"
    assert good["labels"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert good["labels"]["tokensIn"] == "10"
    assert bad["labels"]["level"] == "error"
    assert "hunter22" not in json.dumps(bad)
    # Each carries its own time, not that of reading.
    at = datetime.fromisoformat(json.loads(good["line"])["timestamp"])
    assert abs(at.timestamp() * 1e9 - good["time_ns"]) < 1e6


def test_the_activity_log_arrives(tailing: tuple[Stack, Containers]) -> None:
    stack, _ = tailing
    with open(stack.home / "logs" / "activity.log", "a") as file:
        file.write("12:00:01 web alice ok: how is my container?\n")
    lines(stack, '{service_name="gateway"} | log_source="activity"', 1)


def test_container_lines_carry_their_handle(tailing: tuple[Stack, Containers]) -> None:
    stack, containers = tailing
    containers.write("c1", "INFO starting\n", "ERROR it broke\n", handle="bob")
    first, second = lines(stack, '{service_name="container", handle="bob"}', 2)
    assert (first["line"], first["labels"]["level"]) == ("INFO starting", "info")
    assert (second["line"], second["labels"]["level"]) == ("ERROR it broke", "error")
    assert first["labels"]["log_iostream"] == "stdout"


def test_containers_without_a_handle_or_with_otlp_are_left_out(
    tailing: tuple[Stack, Containers],
) -> None:
    stack, containers = tailing
    containers.write("c2", "nobody's\n")
    containers.write("c3", "sent already\n", handle="carol", **{"telemetry.logs": "otlp"})
    containers.write("c4", "the last one\n", handle="dave")
    lines(stack, '{service_name="container", handle="dave"}', 1)
    assert not stack.logs('{service_name="container"} |~ "nobody|sent already"')


TRACEBACK = """\
ERROR:app:request failed
Traceback (most recent call last):
  File "/app/main.py", line 3, in handler
    raise ValueError("no such item")
ValueError: no such item

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/main.py", line 5, in handler
    raise RuntimeError("gave up") from None
app.errors.RuntimeError: gave up
"""


def test_a_traceback_is_one_entry(tailing: tuple[Stack, Containers]) -> None:
    stack, containers = tailing
    containers.write("c5", "INFO before\n", handle="erin")
    containers.write("c5", *TRACEBACK.splitlines(keepends=True), handle="erin")
    containers.write("c5", "INFO after\n", handle="erin")
    before, trace, after = lines(stack, '{service_name="container", handle="erin"}', 3)
    assert (before["line"], after["line"]) == ("INFO before", "INFO after")
    assert trace["line"] == TRACEBACK.rstrip("\n")
    assert trace["labels"]["level"] == "error"


def test_a_line_that_docker_cut_is_whole_again(tailing: tuple[Stack, Containers]) -> None:
    """Docker cuts at 16 KiB: the pieces end without a line feed."""
    stack, containers = tailing
    pieces = ["a" * 16384, "b" * 16384, "c" * 100 + "\n"]
    containers.write("c6", *pieces, "short\n", handle="frank")
    long, short = lines(stack, '{service_name="container", handle="frank"}', 2)
    assert long["line"] == "".join(pieces).rstrip("\n")
    assert short["line"] == "short"


def test_two_containers_lines_are_not_mixed(tailing: tuple[Stack, Containers]) -> None:
    stack, containers = tailing
    for i in range(20):
        containers.write("c7", f"left {i}\n", handle="gina")
        containers.write("c8", f"right {i}\n", handle="hugo")
    for handle, word in (("gina", "left"), ("hugo", "right")):
        found = lines(stack, f'{{service_name="container", handle="{handle}"}}', 20)
        assert [entry["line"] for entry in found] == [f"{word} {i}" for i in range(20)]


def test_each_line_once_over_a_restart_of_the_collector(
    tailing: tuple[Stack, Containers],
) -> None:
    """The checkpoint outlives it: nothing missing, nothing twice."""
    stack, containers = tailing
    for i in range(50):
        containers.write("c9", f"line {i}\n", handle="ivy")
    stack.supervisor("halt", "collector")
    for i in range(50, 100):
        containers.write("c9", f"line {i}\n", handle="ivy")
    stack.supervisor("start", "collector")
    health = f"http://127.0.0.1:{stack.ports['collector_health']}/"
    until(lambda: ready.answers(health))
    for i in range(100, 150):
        containers.write("c9", f"line {i}\n", handle="ivy")
    found = lines(stack, '{service_name="container", handle="ivy"}', 150)
    assert sorted(e["line"] for e in found) == sorted(f"line {i}" for i in range(150))


def test_a_rotated_file_loses_nothing(tailing: tuple[Stack, Containers]) -> None:
    """Docker renames a full file and begins a new one: whether the full one was read before, or
    not even seen."""
    stack, containers = tailing
    log = containers.folder / "c10" / "c10-json.log"
    older, oldest = log.with_suffix(".log.1"), log.with_suffix(".log.2")
    for turn in range(4):
        containers.write("c10", *(f"turn {turn} line {i}\n" for i in range(30)), handle="jane")
        if turn % 2 == 0:
            stack.wait_logs(f'{{service_name="container", handle="jane"}} |= "turn {turn} line 28"')
            containers.write("c10", f"turn {turn} last\n", handle="jane")
        if older.exists():
            stack.wait_logs(f'{{handle="jane"}} |= "turn {turn - 1} line 28"')
            older.rename(oldest)
        log.rename(older)
    found = lines(stack, '{service_name="container", handle="jane"}', 122)
    assert len({entry["line"] for entry in found}) == 122, "each once"


# --- what is scraped -----------------------------------------------------------------------------


def test_the_engines_own_metrics_are_scraped(stack: Stack) -> None:
    stack.wait_query(
        'up{job=~"collector|prometheus|loki|alertmanager"} == 1', lambda found: len(found) == 4
    )
    stack.wait_query('otelcol_exporter_queue_size{job="collector"}', lambda found: len(found) >= 2)
    stack.wait_query('otelcol_exporter_queue_capacity{job="collector"}')
    stack.wait_query('{__name__=~"otelcol_receiver_accepted_metric_points.*",job="collector"}')
    stack.wait_query('loki_build_info{job="loki"}')


def test_of_a_service_only_whether_it_answers_is_pulled(stack: Stack, tmp_path: Path) -> None:
    """Its series come by OTLP: pulled, too, each would stand there twice."""
    (tmp_path / "tiny.py").write_text(
        "from starlette.applications import Starlette\n"
        "from starlette.responses import PlainTextResponse\n"
        "from starlette.routing import Route\n"
        "app = Starlette(routes=[Route('/', lambda request: PlainTextResponse('hi'))])\n"
    )
    port = free_ports(("app",))["app"]
    env = stack.env(OTEL_SERVICE_NAME="pulled")
    command = [sys.executable, "-m", "telemetry", "run", "tiny:app", f"--port={port}"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    try:
        until(lambda: ready.answers(f"http://127.0.0.1:{port}/"))
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
    # One that ended on purpose is not down: it isn't asked any more.
    until(lambda: not stack.query('up{job="pulled"}'))


def test_host_metrics_arrive(stack: Stack) -> None:
    for name in (
        "system_cpu_utilization_ratio",
        "system_memory_utilization_ratio",
        "system_filesystem_utilization_ratio",
    ):
        stack.wait_query(f'{name}{{job="host"}}')


# --- traces --------------------------------------------------------------------------------------


def test_spans_pass_through_to_a_trace_backend(new_stack: Stack, otlp: Receiver) -> None:
    new_stack.run("up", "--no-services", TELEMETRY_TRACES_ENDPOINT=otlp.url)
    claimed = [{"key": "handle", "value": {"stringValue": "bob"}}]
    span = {
        "attributes": claimed,
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "name": "a span of a test",
        "startTimeUnixNano": str(time.time_ns()),
        "endTimeUnixNano": str(time.time_ns()),
    }
    spans = {"resource": {"attributes": claimed}, "scopeSpans": [{"spans": [span]}]}
    url = f"{new_stack.otlp_http}/v1/traces"
    for count, headers in ((1, {}), (2, RELAYED)):
        body = {"resourceSpans": [spans]}
        httpx.post(url, json=body, headers=headers).raise_for_status()
        until(lambda: len(otlp.traces) == count)  # noqa: B023
    direct, relayed = (str(request) for request in otlp.traces)
    assert direct.count("bob") == 2
    assert ("bob" in relayed, relayed.count('"ann"')) == (False, 2), "its handle, its service"


def test_without_a_trace_backend_senders_are_told(stack: Stack) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ready.post_json(f"{stack.otlp_http}/v1/traces", {"resourceSpans": []})
    with caught.value as answer:
        assert answer.code == 404
