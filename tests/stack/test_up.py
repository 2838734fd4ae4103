"""`telemetry up`, `status`, `restart`, `logs`, `down` with the real engines."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from telemetry.settings.stack import StackSettings
from telemetry.stack import supervisor_client
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import ensure
from telemetry.stack.state_folder import StateFolder
from telemetry.system import json_http
from tests.alerting.receivers import mail_server
from tests.fixtures.releases import Releases, tarred, zipped
from tests.fixtures.stack import Stack, until

pytestmark = pytest.mark.stack

ENGINES = ("prometheus", "loki", "collector", "alertmanager")


def _send(stack: Stack, service: str, *lines: str) -> None:
    """Send log lines and a gauge of a service, as an app does."""
    now = str(time.time_ns())
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    records = [{"timeUnixNano": now, "body": {"stringValue": line}} for line in lines]
    logs = {"resource": resource, "scopeLogs": [{"logRecords": records}]}
    point = {"asDouble": len(lines), "timeUnixNano": now}
    metric = {"name": "sent.lines", "gauge": {"dataPoints": [point]}}
    metrics = {"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}
    json_http.post_json(f"{stack.otlp_http}/v1/logs", {"resourceLogs": [logs]})
    json_http.post_json(f"{stack.otlp_http}/v1/metrics", {"resourceMetrics": [metrics]})


def test_up_status_restart_logs_and_down_report_state(new_stack: Stack) -> None:
    stack = new_stack
    assert stack.run("status", check=False).returncode == 3, "nothing runs yet"

    up = stack.run("up", "--no-services").stdout
    for name in ENGINES:
        assert re.search(rf"^{name} +ready +(http\S+ +)?\d", up, re.MULTILINE), up
    assert re.search(r"Ready in \d+\.\d s; first metric and log line visible after \d+\.\d s", up)
    assert stack.otlp_http in up, "apps send there"

    status = stack.run("status").stdout
    assert status.count("ready") == len(ENGINES)
    assert "Alerts are evaluated by prometheus." in status

    again = stack.run("up", "--no-services").stdout
    assert again.startswith("Already running.")

    more = stack.run("up", check=False)
    assert more.returncode == 1
    assert more.stdout.startswith("The engines are already running, without the services.")

    before = stack.pid("loki")
    assert stack.run("restart", "loki").stdout == "loki is ready again.\n"
    assert stack.pid("loki") != before
    wrong = stack.run("restart", "lokki", check=False)
    assert wrong.returncode == 64
    assert "use one of: collector, prometheus, loki, alertmanager" in wrong.stderr

    pids = [stack.pid(name) for name in ENGINES]
    assert re.fullmatch(r"Stopped in \d+\.\d s\.\n", stack.run("down").stdout)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert stack.run("down").stdout == f"No stack runs in {stack.home}.\n"
    # Their output can still be read.
    assert "Received an OS signal" in stack.run("logs", "prometheus").stdout
    missing = stack.run("logs", "tempo", check=False)
    assert missing.returncode == 66
    assert "use one of: " in missing.stderr


def test_data_accepted_before_down_is_there_after_up(new_stack: Stack) -> None:
    """Also data accepted just before `down` is there after the next `up`."""
    stack = new_stack
    stack.run("up", "--no-services")
    _send(stack, "last-minute", *(f"line {i}" for i in range(200)))
    stack.run("down")
    stack.run("up", "--no-services")
    entries = stack.wait_logs('{service_name="last-minute"}', lambda found: len(found) >= 200)
    assert sorted(entry["line"] for entry in entries) == sorted(f"line {i}" for i in range(200))
    (series,) = stack.wait_query('last_over_time(sent_lines{job="last-minute"}[1h])')
    assert float(series["value"][1]) == 200


def test_data_for_halted_store_is_delivered_after_next_up(new_stack: Stack) -> None:
    """The collector's queue is on disk."""
    stack = new_stack
    stack.run("up", "--no-services")
    stack.supervisor("halt", "loki")
    _send(stack, "kept-on-disk", "a line for later")
    stack.run("down")
    stack.run("up", "--no-services")
    stack.wait_logs('{service_name="kept-on-disk"}', lambda found: len(found) == 1)


def test_killed_engine_is_restarted_and_notice_is_sent(new_stack: Stack) -> None:
    """An evaluator can't report its own death, so the supervisor does."""
    stack = new_stack
    with mail_server() as mail:
        stack.run(
            "up",
            "--no-services",
            TELEMETRY_ALERT_EMAIL_TO="ops@example.org",
            TELEMETRY_SMTP_HOST="127.0.0.1",
            TELEMETRY_SMTP_PORT=str(mail.port),
            TELEMETRY_SMTP_FROM="telemetry@example.org",
            TELEMETRY_SMTP_TLS="off",
        )
        os.kill(stack.pid("prometheus"), signal.SIGKILL)
        (row,) = until(lambda: [r for r in _rows(stack) if r["restarts"]])
        assert (row["name"], row["last_exit"]) == ("prometheus", "SIGKILL")
        until(lambda: mail.messages)
        until(lambda: stack.answers(f"{stack.prometheus_url}/-/ready"))
    assert "prometheus died" in mail.messages[0]["subject"]
    assert "SIGKILL" in mail.messages[0].as_string()


def test_up_after_killed_supervisor_keeps_accepted_data(new_stack: Stack) -> None:
    """After kill -9 of the supervisor, `up` starts everything again."""
    stack = new_stack
    stack.run("up", "--no-services")
    _send(stack, "before-the-kill", "a line")
    layout = StateFolder(stack.home)
    os.kill(int(layout.lock.read_text()), signal.SIGKILL)
    until(lambda: not supervisor_client.is_running(layout))
    assert "error: no stack runs in" in stack.run("status", check=False).stderr
    stack.run("up", "--no-services")
    stack.wait_logs('{service_name="before-the-kill"}', lambda found: len(found) == 1)


def test_up_with_taken_port_exits_75_and_starts_nothing(new_stack: Stack) -> None:
    stack = new_stack
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stack.ports["loki"]))
        taken.listen()
        done = stack.run("up", "--no-services", check=False)
    assert done.returncode == 75
    assert re.search(
        rf"error: port {stack.ports['loki']}, which loki needs, is taken by process {os.getpid()} ",
        done.stderr,
    )
    assert not supervisor_client.is_running(StateFolder(stack.home))


def test_up_with_failing_engine_exits_70_and_stops_the_rest(
    new_stack: Stack, tmp_path: Path
) -> None:
    """The error has the engine's name and its own error line."""
    broken = tmp_path / "engines" / "loki"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'level=error msg=\"no such schema\"'\nexit 1\n")
    broken.chmod(0o755)
    for name in ("collector", "prometheus", "alertmanager"):
        program = ensure.ensure(engines.table()[name], StackSettings.from_env(os.environ))
        (broken.parent / program.name).symlink_to(program)
    done = new_stack.run("up", "--no-services", check=False, TELEMETRY_ENGINES=str(broken.parent))
    assert done.returncode == 70
    assert 'error: loki does not start: exit code 1; level=error msg="no such schema"' in (
        done.stderr.replace("\n", " ")
    )
    assert not supervisor_client.is_running(StateFolder(new_stack.home))
    assert supervisor_client.reap(StateFolder(new_stack.home)) == []


def test_up_fetches_engines_from_releases(
    new_stack: Stack, releases: Releases, tmp_path: Path
) -> None:
    """On an empty machine each engine is fetched, checked, unpacked and run."""
    for name in ENGINES:
        engine = engines.table()[name]
        ensure.ensure(engine, StackSettings.from_env(os.environ))
        kept = [
            ensure.cached(engine, StackSettings.from_env(os.environ), program)
            for program in engine.programs
        ]
        assert all(kept), "the cache has the tools too"
        members = dict(zip(map(engine.fill, engine.members), kept, strict=True))
        pack = zipped if engine.release.endswith(".zip") else tarred
        releases.publish(
            engine, pack({m: path.read_bytes() for m, path in members.items() if path})
        )
    cache = tmp_path / "engines"
    up = new_stack.run(
        "up",
        "--no-services",
        "--engines=release",
        TELEMETRY_RELEASES=releases.url,
        TELEMETRY_ENGINES=str(cache),
    ).stdout
    for name in ENGINES:
        version = engines.table()[name].version
        assert f"{name}: fetching {releases.url}" in up
        assert re.search(rf"^{name} +ready .*\b{version} ", up, re.MULTILINE)
    assert sorted(path.name for path in cache.iterdir()) == sorted(
        f"{name}-{engines.table()[name].version}" for name in ENGINES
    ), "only complete engines"


def test_interrupted_up_leaves_no_processes(new_stack: Stack) -> None:
    layout = StateFolder(new_stack.home)
    command = [sys.executable, "-m", "telemetry", "up", "--no-services"]
    with subprocess.Popen(
        command, env=new_stack.env(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as up:
        until(lambda: supervisor_client.is_running(layout))
        up.send_signal(signal.SIGINT)
        _, printed = up.communicate(timeout=60)
    assert (up.returncode, printed) == (130, "")
    until(lambda: not supervisor_client.is_running(layout))
    assert supervisor_client.reap(layout) == []


def test_concurrent_up_exits_75(new_stack: Stack) -> None:
    """The second `up` reports that the first is running."""
    layout = StateFolder(new_stack.home)
    layout.make()
    with supervisor_client.exclusive(layout):
        done = new_stack.run("up", "--no-services", check=False)
    assert done.returncode == 75
    assert "another `telemetry up` or `down` is running" in done.stderr


def _rows(stack: Stack) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = supervisor_client.ask(StateFolder(stack.home))["processes"]
    return rows
