"""The supervisor with plain programs: started again, kept, ended, and nothing left behind."""

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
from telemetry.stack.child import inherited
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
    """What it printed, without the lines that say when it was started."""
    path = layout.output / f"{name}.log"
    try:
        text = path.read_text()
    except FileNotFoundError:  # not begun, or just rotated away
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


def test_what_ends_is_started_again_ever_later(start: Start) -> None:
    layout = start(shell("loki", "echo started; exit 3"), shell("other", FOREVER))
    until(lambda: output(layout, "loki").count("started") >= 3)
    pauses = re.findall(
        r"loki ended \(exit code 3\); starting it again in (.+) s", output(layout, "supervisor")
    )
    assert pauses[:3] == ["0.2", "1.0", "3.0"][: len(pauses)]
    rows = {row["name"]: row for row in supervisor_client.ask(layout)["processes"]}
    assert rows["loki"]["restarts"] >= 2
    assert rows["loki"]["last_exit"] == "exit code 3"
    assert rows["other"]["restarts"] == 0


def test_it_starts_beside_a_module_of_the_user_s_by_our_name(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "telemetry.py").write_text("raise SystemExit('not this one')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    layout = start(shell("loki", FOREVER))
    until(lambda: pid(layout, "loki"))


def test_a_killed_process_is_started_again_and_its_end_known(start: Start) -> None:
    layout = start(shell("loki", FOREVER))
    first = until(lambda: pid(layout, "loki"))
    os.kill(first, signal.SIGKILL)
    second = until(lambda: (found := pid(layout, "loki")) and found != first and found)
    (row,) = supervisor_client.ask(layout)["processes"]
    assert (row["restarts"], row["last_exit"]) == (1, "SIGKILL")
    os.kill(second, signal.SIGTERM)
    until(lambda: supervisor_client.ask(layout)["processes"][0]["restarts"] == 2)


def test_a_disk_without_room_for_notes_starts_nothing_twice(start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "pids.json").mkdir(parents=True)  # where the note would be written
    layout = start(shell("loki", f"echo started; {FOREVER}"), home=home)
    until(lambda: "could not note what runs" in output(layout, "supervisor"))
    until(lambda: "started" in output(layout, "loki"))
    (home / "targets" / "stack.json").unlink()
    (home / "targets" / "stack.json").mkdir()
    child = pid(layout, "loki")
    supervisor_client.ask(layout, 30.0, do="stop")
    (home / "pids.json").rmdir()
    assert output(layout, "loki").count("started") == 1
    assert not alive(child)


def test_a_program_that_is_not_there(start: Start) -> None:
    layout = start(Process("loki", ("/nowhere/loki",), "", ()))
    until(lambda: supervisor_client.ask(layout)["processes"][0]["restarts"] >= 1)
    assert "No such file" in supervisor_client.ask(layout)["processes"][0]["last_exit"]


def test_workers_of_a_killed_process_do_not_hold_up_its_restart(start: Start) -> None:
    """They have its output open, and its port."""
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


def test_last_words_are_kept(start: Start) -> None:
    words = "trap 'echo stopping; sleep 0.2; echo flushed; exit 0' TERM"
    layout = start(shell("loki", f"{words}; echo ready; {FOREVER}"))
    until(lambda: "ready" in output(layout, "loki"))
    supervisor_client.ask(layout, 30.0, do="stop")
    assert output(layout, "loki") == "ready\nstopping\nflushed\n"


def test_stopped_in_the_order_of_the_data(start: Start, tmp_path: Path) -> None:
    """Services, then what passes their data on, then what keeps it."""
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


def test_what_does_not_stop_is_killed_with_its_children(start: Start) -> None:
    stubborn = "trap '' TERM"
    script = f"{stubborn}; ({stubborn}; {FOREVER}) & echo child $!; {FOREVER}"
    layout = start(shell("loki", script, grace_s=0.3))
    child = int(until(lambda: re.search(r"child (\d+)", output(layout, "loki")))[1])
    parent = until(lambda: pid(layout, "loki"))
    supervisor_client.ask(layout, 30.0, do="stop")
    until(lambda: not alive(parent) and not alive(child))


def test_a_killed_supervisor_takes_its_processes_along(start: Start) -> None:
    layout = start(shell("loki", FOREVER))
    child = until(lambda: pid(layout, "loki"))
    os.kill(supervisor(layout), signal.SIGKILL)
    until(lambda: not alive(child))
    until(lambda: not supervisor_client.is_running(layout))
    with pytest.raises(supervisor_client.NotRunning):
        supervisor_client.ask(layout)
    # Its socket and lock are still there; they are in nobody's way.
    assert layout.socket.exists()
    start(shell("loki", FOREVER))
    until(lambda: pid(layout, "loki"))


def test_what_a_killed_supervisor_left_is_ended(start: Start) -> None:
    layout = start(shell("loki", f"trap '' TERM; echo ready; {FOREVER}"))
    until(lambda: "ready" in output(layout, "loki"))
    child = until(lambda: pid(layout, "loki"))
    os.kill(supervisor(layout), signal.SIGKILL)
    until(lambda: not supervisor_client.is_running(layout))
    assert alive(child), "it doesn't listen to SIGTERM"
    supervisor_client.REAP_S, before = 0.3, supervisor_client.REAP_S
    try:
        assert supervisor_client.reap(layout) == ["loki"]
    finally:
        supervisor_client.REAP_S = before
    assert not alive(child)
    assert supervisor_client.reap(layout) == []


def test_what_is_about_to_be_gone_is_waited_for(tmp_path: Path) -> None:
    """A killed process has no environment left before its ports are free."""
    layout = StateFolder(tmp_path)
    layout.make()
    command = f"/bin/sleep 0.3; echo >{tmp_path}/ended"
    with subprocess.Popen(["/bin/sh", "-c", command], env={}, start_new_session=True) as leaving:
        layout.pids.write_text(json.dumps({"loki": os.getpgid(leaving.pid)}))
        assert supervisor_client.reap(layout) == []
        assert (tmp_path / "ended").exists(), "by itself, before the next one starts"


def test_another_s_process_with_an_old_number_is_left_alone(tmp_path: Path) -> None:
    """A stale pid file: the number is somebody else's by now."""
    layout = StateFolder(tmp_path)
    layout.make()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        layout.pids.write_text(json.dumps({"loki": os.getpgid(other.pid), "x": 2**22}))
        layout.lock.write_text(str(other.pid))
        assert not supervisor_client.is_running(layout), "a lock is the kernel's, not the file's"
        assert supervisor_client.reap(layout) == []
        assert other.poll() is None
        other.terminate()


def test_one_supervisor_a_folder(start: Start) -> None:
    layout = start(shell("loki", FOREVER))
    command = [sys.executable, "-m", "telemetry.stack.supervisor", str(layout.home)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert second.stderr.strip() == "another supervisor has this state folder"
    assert pid(layout, "loki"), "the first is none the worse"


def test_one_can_be_halted_and_started(start: Start) -> None:
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
    assert supervisor_client.ask(layout)["processes"][0]["restarts"] == 0, "asked for, not a crash"
    with pytest.raises(TelemetryError, match="nothing here is called 'tempo'"):
        supervisor_client.ask(layout, do="restart", name="tempo")


def test_a_state_folder_with_a_long_path(start: Start, tmp_path: Path) -> None:
    """A socket's path may have 107 bytes; a folder's far more."""
    layout = start(shell("loki", FOREVER), home=tmp_path / ("deep" * 20) / ("deeper" * 10))
    assert until(lambda: pid(layout, "loki"))


def test_two_restarts_at_once_leave_it_running(start: Start) -> None:
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


def test_only_the_proxy_gets_the_providers_keys() -> None:
    engines = {"PATH": "/bin", "HOME": "/root", "TELEMETRY_HOME": "/x", "GF_LOG_LEVEL": "warn"}
    services = {
        **engines,
        "TELEMETRY_ADMIN_TOKEN": "secret",
        "TELEMETRY_GATEWAY_TOKEN": "secret",
        "TELEMETRY_PROXY_KEY": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    environ = {**services, "ANTHROPIC_API_KEY": "secret", "OPENAI_API_KEY": "secret"}
    assert inherited(shell("proxy", "", tier=0), environ) == environ
    assert inherited(shell("gateway", "", tier=0), environ) == services
    assert inherited(shell("loki", ""), environ) == {**engines, "TELEMETRY_PROXY_KEY": "secret"}


def test_what_is_said_of_a_process_is_of_its_last_run(start: Start, tmp_path: Path) -> None:
    """An older run's trouble is not this one's."""
    note = tmp_path / "ran"
    script = (
        f"if [ -e {note} ]; then echo quiet; else touch {note}; echo 'error: no disk'; fi; exit 1"
    )
    layout = start(shell("loki", script))
    until(lambda: "no disk" in output(layout, "loki"))
    until(lambda: output(layout, "loki").count("quiet") >= 1)
    assert terminal.complaint(layout, "loki") == "quiet"
    assert terminal.complaint(layout, "tempo") == "it printed nothing"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("a warning: an error may follow\nerror: port taken\n  -> free it\n", "port taken"),
        ("starting\nlevel=error no schema\ngoroutine 1\nexit\n", "level=error no schema"),
        ("one\ntwo\n", "two"),
        (f"{STARTED} 1Z\nerror: old\n{STARTED} 2Z\nnew\n{STARTED} 3Z\n", "new"),
    ],
)
def test_the_line_that_says_what_is_wrong(tmp_path: Path, printed: str, said: str) -> None:
    layout = StateFolder(tmp_path)
    layout.make()
    (layout.output / "loki.log").write_text(printed)
    assert terminal.complaint(layout, "loki") == said
