"""The supervisor, with shell scripts as processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from telemetry.errors import TelemetryError
from telemetry.stack import supervisor_client, terminal
from telemetry.stack.child import select_env
from telemetry.stack.log_files import OUTPUT_BYTES
from telemetry.stack.processes import Process
from telemetry.stack.state_folder import STARTED, StateFolder
from tests.fixtures.stack import until

Start = Callable[..., StateFolder]
FOREVER = "while :; do sleep 0.1; done"


def shell(name: str, script: str, tier: int = 2, grace_s: float = 5.0) -> Process:
    argv = ("sh", "-c", script)
    return Process(name, argv, "http://127.0.0.1:9/", (9,), tier=tier, grace_s=grace_s)


def pid(layout: StateFolder, name: str) -> int | None:
    rows = supervisor_client.ask(layout)["processes"]
    found: int | None = next(row["pid"] for row in rows if row["name"] == name)
    return found


def output(layout: StateFolder, name: str) -> str:
    """Return a process' output without the lines that mark the start of a run."""
    path = layout.output / f"{name}.log"
    try:
        text = path.read_text()
    except FileNotFoundError:  # not started yet, or just rotated
        text = ""
    return re.sub(rf"^{STARTED} \S+Z\n", "", text, flags=re.MULTILINE)


def supervisor(layout: StateFolder) -> int:
    return int(layout.lock.read_text())


def alive(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a supervisor with some processes; it is stopped at the end."""
    layouts: list[StateFolder] = []

    def run(*processes: Process, home: Path = tmp_path / "home") -> StateFolder:
        layout = StateFolder(home)
        layout.make()
        layouts.append(layout)
        supervisor_client.start(
            layout, list(processes), {**os.environ, "TELEMETRY_HOME": str(home)}
        )
        return layout

    yield run
    for layout in layouts:
        with contextlib.suppress(TelemetryError):
            supervisor_client.ask(layout, 30.0, do="stop")
        supervisor_client.reap(layout)


def test_process_that_ends_is_restarted_with_back_off(start: Start) -> None:
    layout = start(shell("loki", "echo started; exit 3"), shell("other", FOREVER))
    until(lambda: output(layout, "loki").count("started") >= 3)
    pauses = re.findall(
        r"loki ended \(exit code 3\); restarting it in (.+) s", output(layout, "supervisor")
    )
    assert pauses[:3] == ["0.2", "1.0", "3.0"][: len(pauses)]
    rows = {row["name"]: row for row in supervisor_client.ask(layout)["processes"]}
    assert rows["loki"]["restarts"] >= 2
    assert rows["loki"]["last_exit"] == "exit code 3"
    assert rows["other"]["restarts"] == 0


def test_supervisor_starts_beside_own_telemetry_module_of_user(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "telemetry.py").write_text("raise SystemExit('not this one')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    layout = start(shell("loki", FOREVER))
    until(lambda: pid(layout, "loki"))


def test_killed_process_is_restarted_and_its_signal_reported(start: Start) -> None:
    layout = start(shell("loki", FOREVER))
    first = until(lambda: pid(layout, "loki"))
    os.kill(first, signal.SIGKILL)
    second = until(lambda: (found := pid(layout, "loki")) and found != first and found)
    (row,) = supervisor_client.ask(layout)["processes"]
    assert (row["restarts"], row["last_exit"]) == (1, "SIGKILL")
    os.kill(second, signal.SIGTERM)
    until(lambda: supervisor_client.ask(layout)["processes"][0]["restarts"] == 2)


def test_unwritable_files_do_not_start_processes_twice(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "pids.json").mkdir(parents=True)  # so that the file can't be written
    layout = start(shell("loki", f"echo started; {FOREVER}"), home=home)
    until(lambda: "could not write the process ids" in output(layout, "supervisor"))
    until(lambda: "started" in output(layout, "loki"))
    (home / "targets" / "stack.json").unlink()
    (home / "targets" / "stack.json").mkdir()
    child = pid(layout, "loki")
    supervisor_client.ask(layout, 30.0, do="stop")
    (home / "pids.json").rmdir()
    assert output(layout, "loki").count("started") == 1
    assert not alive(child)


def test_missing_program_is_reported(start: Start) -> None:
    layout = start(Process("loki", ("/nowhere/loki",), "", ()))
    until(lambda: supervisor_client.ask(layout)["processes"][0]["restarts"] >= 1)
    assert "No such file" in supervisor_client.ask(layout)["processes"][0]["last_exit"]


def test_workers_of_killed_process_are_killed_before_restart(start: Start) -> None:
    """The workers have its output and its port open."""
    layout = start(shell("proxy", f"({FOREVER}) & echo worker $!; {FOREVER}", tier=0))
    first = int(until(lambda: re.search(r"worker (\d+)", output(layout, "proxy")))[1])
    parent = until(lambda: pid(layout, "proxy"))
    os.kill(parent, signal.SIGKILL)
    until(lambda: output(layout, "proxy").count("worker") == 2)
    until(lambda: not alive(first))


def test_output_is_kept_and_rotated(start: Start) -> None:
    lines = OUTPUT_BYTES * 3 // 2 // 100
    line = "x" * 99
    layout = start(shell("loki", f"yes {line} | head -n {lines}; echo the end; {FOREVER}"))
    until(lambda: output(layout, "loki").endswith("the end\n"))
    kept = [path.stat().st_size for path in sorted(layout.output.glob("loki.log*"))]
    assert len(kept) == 2
    assert max(kept) <= OUTPUT_BYTES
    assert sum(kept) == lines * 100 + len(f"{STARTED} 2026-01-01T00:00:00Z\nthe end\n"), (
        "nothing is lost between two files"
    )


def test_last_output_of_stopped_process_is_kept(start: Start) -> None:
    words = "trap 'echo stopping; sleep 0.2; echo flushed; exit 0' TERM"
    layout = start(shell("loki", f"{words}; echo ready; {FOREVER}"))
    until(lambda: "ready" in output(layout, "loki"))
    supervisor_client.ask(layout, 30.0, do="stop")
    assert output(layout, "loki") == "ready\nstopping\nflushed\n"


def test_processes_are_stopped_in_order_of_tiers(start: Start, tmp_path: Path) -> None:
    """Services stop first, then the collector that forwards their data, then the stores."""
    note = tmp_path / "order"

    def noting(name: str, tier: int) -> Process:
        script = f"trap 'echo {name} >> {note}; exit 0' TERM; echo ready; {FOREVER}"
        return shell(name, script, tier)

    layout = start(noting("store", 2), noting("passer", 1), noting("service", 0))
    for name in ("store", "passer", "service"):
        until(lambda name=name: "ready" in output(layout, name))  # type: ignore[misc]
    supervisor_client.ask(layout, 30.0, do="stop")
    assert note.read_text().split() == ["service", "passer", "store"]
    until(lambda: not supervisor_client.is_running(layout))
    assert not layout.socket.exists()
    assert not layout.pids.exists()


def test_process_that_ignores_sigterm_is_killed_with_its_children(start: Start) -> None:
    stubborn = "trap '' TERM"
    script = f"{stubborn}; ({stubborn}; {FOREVER}) & echo child $!; {FOREVER}"
    layout = start(shell("loki", script, grace_s=0.3))
    child = int(until(lambda: re.search(r"child (\d+)", output(layout, "loki")))[1])
    parent = until(lambda: pid(layout, "loki"))
    supervisor_client.ask(layout, 30.0, do="stop")
    until(lambda: not alive(parent) and not alive(child))


def test_processes_of_killed_supervisor_end(start: Start) -> None:
    layout = start(shell("loki", FOREVER))
    child = until(lambda: pid(layout, "loki"))
    os.kill(supervisor(layout), signal.SIGKILL)
    until(lambda: not alive(child))
    until(lambda: not supervisor_client.is_running(layout))
    with pytest.raises(supervisor_client.NotRunning):
        supervisor_client.ask(layout)
    # Its socket and lock file still exist, but a new supervisor starts.
    assert layout.socket.exists()
    start(shell("loki", FOREVER))
    until(lambda: pid(layout, "loki"))


def test_reap_stops_processes_of_killed_supervisor(start: Start) -> None:
    layout = start(shell("loki", f"trap '' TERM; echo ready; {FOREVER}"))
    until(lambda: "ready" in output(layout, "loki"))
    child = until(lambda: pid(layout, "loki"))
    os.kill(supervisor(layout), signal.SIGKILL)
    until(lambda: not supervisor_client.is_running(layout))
    assert alive(child), "it ignores SIGTERM"
    supervisor_client.REAP_S, before = 0.3, supervisor_client.REAP_S
    try:
        assert supervisor_client.reap(layout) == ["loki"]
    finally:
        supervisor_client.REAP_S = before
    assert not alive(child)
    assert supervisor_client.reap(layout) == []


def test_reap_waits_for_exiting_process(tmp_path: Path) -> None:
    """The kernel frees the environment of a killed process before its ports."""
    layout = StateFolder(tmp_path)
    layout.make()
    command = f"/bin/sleep 0.3; echo >{tmp_path}/ended"
    with subprocess.Popen(["/bin/sh", "-c", command], env={}, start_new_session=True) as leaving:
        layout.pids.write_text(json.dumps({"loki": os.getpgid(leaving.pid)}))
        assert supervisor_client.reap(layout) == []
        assert (tmp_path / "ended").exists(), "it ended without a signal"


def test_reap_spares_foreign_process_with_old_pid(tmp_path: Path) -> None:
    """The number in a stale pid file may belong to another process by now."""
    layout = StateFolder(tmp_path)
    layout.make()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        layout.pids.write_text(json.dumps({"loki": os.getpgid(other.pid), "x": 2**22}))
        layout.lock.write_text(str(other.pid))
        assert not supervisor_client.is_running(layout), "the kernel holds no lock on the file"
        assert supervisor_client.reap(layout) == []
        assert other.poll() is None
        other.terminate()


def test_second_supervisor_in_same_folder_exits(start: Start) -> None:
    layout = start(shell("loki", FOREVER))
    command = [sys.executable, "-m", "telemetry.stack.supervisor", str(layout.home)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert second.stderr.strip() == (f"another supervisor runs in the state folder {layout.home}")
    assert pid(layout, "loki"), "the first one keeps running"


def test_process_is_halted_started_and_restarted_on_request(start: Start) -> None:
    layout = start(shell("proxy", FOREVER, tier=0), shell("loki", FOREVER))
    first = until(lambda: pid(layout, "proxy"))
    supervisor_client.ask(layout, 60.0, do="halt", name="proxy")
    assert pid(layout, "proxy") is None
    assert not alive(first)
    supervisor_client.ask(layout, 60.0, do="start", name="proxy")
    second = until(lambda: pid(layout, "proxy"))
    supervisor_client.ask(layout, 60.0, do="restart", name="proxy")
    third = until(lambda: pid(layout, "proxy"))
    assert len({first, second, third}) == 3
    assert supervisor_client.ask(layout)["processes"][0]["restarts"] == 0, "not a crash"
    with pytest.raises(TelemetryError, match="no process is called 'tempo'"):
        supervisor_client.ask(layout, do="restart", name="tempo")


def test_socket_works_in_folder_with_long_path(start: Start, tmp_path: Path) -> None:
    """A socket's path may have at most 107 bytes, a folder's many more."""
    layout = start(shell("loki", FOREVER), home=tmp_path / ("deep" * 20) / ("deeper" * 10))
    assert until(lambda: pid(layout, "loki"))


def test_concurrent_restarts_leave_process_running(start: Start) -> None:
    layout = start(shell("loki", FOREVER))
    first = until(lambda: pid(layout, "loki"))
    with ThreadPoolExecutor(4) as threads:
        asked = [
            threads.submit(supervisor_client.ask, layout, do="restart", name="loki")
            for _ in range(4)
        ]
        for answer in asked:
            answer.result()
    last = until(lambda: pid(layout, "loki"))
    assert last != first
    supervisor_client.ask(layout, do="halt", name="loki")
    assert not alive(last)


def test_only_proxy_gets_provider_keys() -> None:
    engines = {"PATH": "/bin", "HOME": "/root", "TELEMETRY_HOME": "/x", "GF_LOG_LEVEL": "warn"}
    services = {
        **engines,
        "TELEMETRY_ADMIN_TOKEN": "secret",
        "TELEMETRY_GATEWAY_TOKEN": "secret",
        "TELEMETRY_PROXY_KEY": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    environ = {**services, "ANTHROPIC_API_KEY": "secret", "OPENAI_API_KEY": "secret"}
    assert select_env(shell("proxy", "", tier=0), environ) == environ
    assert select_env(shell("gateway", "", tier=0), environ) == services
    assert select_env(shell("loki", ""), environ) == {
        **engines,
        "TELEMETRY_PROXY_KEY": "secret",
    }


def test_reported_error_is_from_last_run(start: Start, tmp_path: Path) -> None:
    """An error of an earlier run is not reported."""
    note = tmp_path / "ran"
    script = (
        f"if [ -e {note} ]; then echo quiet; else touch {note}; echo 'error: no disk'; fi; exit 1"
    )
    layout = start(shell("loki", script))
    until(lambda: "no disk" in output(layout, "loki"))
    until(lambda: output(layout, "loki").count("quiet") >= 1)
    assert terminal.find_error(layout, "loki") == "quiet"
    assert terminal.find_error(layout, "tempo") == "it printed nothing"


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("a warning: an error may follow\nerror: port taken\n  -> free it\n", "port taken"),
        ("starting\nlevel=error no schema\ngoroutine 1\nexit\n", "level=error no schema"),
        ("one\ntwo\n", "two"),
        (f"{STARTED} 1Z\nerror: old\n{STARTED} 2Z\nnew\n{STARTED} 3Z\n", "new"),
    ],
)
def test_find_error_returns_line_that_explains_failure(
    tmp_path: Path, printed: str, expected: str
) -> None:
    layout = StateFolder(tmp_path)
    layout.make()
    (layout.output / "loki.log").write_text(printed)
    assert terminal.find_error(layout, "loki") == expected
