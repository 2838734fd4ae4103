"""Builds with a simulated Go program in PATH.

The real Go builds the engines for the tests that need real engines.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from telemetry.settings.stack import StackSettings
from telemetry.stack.engines import build, ensure
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines.engine import EngineError
from telemetry.system.file_locks import hold

LOKI = engines.table()["loki"]
LOCK = ".loki-3.7.8.lock"  # is never removed: a process may wait for it

LIST = """
case "$1" in
list) echo one; echo two; echo three; exit 0;;
esac
"""
# Writes a program to the path after -o.
BUILD = """
while [ "$1" != -o ]; do shift; done
echo one >&2; echo two >&2
printf '#!/bin/sh\\necho loki, version 3.7.8\\n' > "$2"
"""
FAIL = """
echo 'go: downloading example.com/a v1.0.0' >&2
echo '# example.com/a' >&2
echo './a.go:7:2: undefined: b' >&2
exit 1
"""


def environ(tmp_path: Path, script: str) -> dict[str, str]:
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(f"#!/bin/sh\n{script}")
    go.chmod(0o755)
    return {
        "PATH": f"{go.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TELEMETRY_ENGINES": str(tmp_path / "engines"),
    }


def test_built_program_is_installed_and_work_folder_removed(tmp_path: Path) -> None:
    reported: list[tuple[str, float | None]] = []
    env = environ(tmp_path, LIST + BUILD)
    program = ensure.ensure(
        LOKI,
        StackSettings.from_env(env),
        "go",
        lambda text, done=None: reported.append((text, done)),
    )
    assert program == tmp_path / "engines" / "loki-3.7.8" / "loki"
    assert ensure.read_version(program) == "3.7.8"
    assert program.stat().st_mode & 0o777 == 0o755
    assert reported[-1] == ("loki 3.7.8: compiling (2 of 3 packages)", 2 / 3)
    assert sorted(os.listdir(tmp_path / "engines")) == [LOCK, "loki-3.7.8"], "no work folder"


def test_failed_build_reports_output_of_go_and_leaves_no_files(tmp_path: Path) -> None:
    env = environ(tmp_path, LIST + FAIL)
    with pytest.raises(EngineError) as caught:
        ensure.ensure(LOKI, StackSettings.from_env(env), "go")
    assert caught.value.message == (
        "loki 3.7.8 is unavailable: go: go build failed: # example.com/a | ./a.go:7:2: undefined: b"
    )
    assert caught.value.exit_code == 69
    assert os.listdir(tmp_path / "engines") == [LOCK]


def test_interrupted_build_leaves_no_files(tmp_path: Path) -> None:
    env = environ(tmp_path, LIST + "echo one >&2\nexec sleep 30")

    def interrupt(text: str, done: float | None = None) -> None:
        if "(1 of 3" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build.build(
            LOKI, tmp_path / "engines" / "loki-3.7.8", StackSettings.from_env(env), interrupt
        )
    assert os.listdir(tmp_path / "engines") == [LOCK]


def test_build_uses_only_pinned_modules(tmp_path: Path) -> None:
    """Go's arguments: read-only modules, trimmed paths, the version in the program."""
    env = environ(tmp_path, f'echo "$@" >> {tmp_path}/asked\n{LIST}{BUILD}')
    ensure.ensure(LOKI, StackSettings.from_env(env), "go")
    listed, built = (tmp_path / "asked").read_text().splitlines()
    assert listed.startswith("list -deps -trimpath -mod=readonly")
    assert "-mod=readonly" in built
    assert "build.Version=3.7.8" in built
    assert built.endswith("github.com/grafana/loki/v3/cmd/loki")


@pytest.mark.stack
@pytest.mark.parametrize("name", ["collector", "prometheus", "loki", "alertmanager"])
def test_go_sum_has_all_checksums(name: str) -> None:
    """A build changes neither go.mod nor go.sum."""
    if name == "collector":
        packages = ["go.opentelemetry.io/collector/cmd/builder"]
    else:
        packages = list(engines.table()[name].packages)
    done = subprocess.run(
        ["go", "list", "-deps", "-mod=readonly", f"-tags={engines.table()[name].tags}", *packages],
        cwd=engines.FOLDER / name,
        env={**os.environ, "GOWORK": "off", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_second_process_waits_for_the_build_of_the_first(tmp_path: Path) -> None:
    settings = StackSettings.from_env(environ(tmp_path, FAIL))  # would fail if it built
    folder = settings.engines / f"loki-{LOKI.version}"
    folder.parent.mkdir(parents=True)
    reported: list[str] = []

    def report(text: str, done: float | None = None) -> None:
        reported.append(text)
        if text.startswith("waiting"):  # the first process ends its build
            folder.mkdir()
            (folder / "loki").touch(0o755)
            os.close(first)

    first = hold(folder.with_name(LOCK))
    build.build(LOKI, folder, settings, report)
    assert reported == ["waiting for another process, which is building loki-3.7.8"]


def test_build_removes_files_of_killed_build(tmp_path: Path) -> None:
    settings = StackSettings.from_env(environ(tmp_path, LIST + BUILD))
    left = settings.engines / ".build-loki-3.7.8-abc" / "module"
    left.mkdir(parents=True)
    ensure.ensure(LOKI, settings, "go")
    assert not left.parent.exists()
