"""Engines built with Go from pinned modules.

`engines/<name>/go.mod` and `go.sum` are the pins and the checksums; nothing that they don't
name is compiled. The collector's main package is written by the collector's own builder, from
collector/builder.yaml.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from telemetry.settings.stack import StackSettings
from telemetry.stack.engines.engine import FOLDER, Engine, EngineError, Say
from telemetry.stack.engines.fetch import install
from telemetry.system import packaged_files
from telemetry.system.file_locks import is_locked, locked


def build(engine: Engine, target: Path, settings: StackSettings, say: Say) -> None:
    """Compile the engine and its tools into ``target``.

    Args:
        engine: which.
        target: folder its programs are put in, whole or not at all.
        settings: PATH and Go's own variables.
        say: told of progress.

    Raises:
        EngineError: Go is missing, or the build failed; says its last lines.
    """
    go = shutil.which("go", path=settings.search_path)
    if go is None:
        raise EngineError("Go is not installed", remedy="install Go 1.26 or later")
    child_env = {**settings.child_env, "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
    with _work(target, say) as work:
        if work is None:
            return
        module = work / "module"
        shutil.copytree(FOLDER / engine.name, module)
        packages = list(engine.packages)
        if engine.name == "collector":
            _generate_collector(go, module, child_env, say)
            packages = ["."]
        built: dict[str, bytes | Path] = {}
        for program, package in zip(engine.programs, packages, strict=True):
            say(f"{program} {engine.version}: finding its modules")
            flags = ["-trimpath", "-mod=readonly", f"-tags={engine.tags}"]
            parts = _go([go, "list", "-deps", *flags, package], module, child_env)
            out = work / program
            link = f"-ldflags=-s -w {engine.fill(engine.ldflags)}".rstrip()
            command = [go, "build", "-v", *flags, link, "-o", str(out), package]
            compiled = _Count(f"{program} {engine.version}: compiling", len(parts), say)
            _go(command, module, child_env, compiled)
            built[program] = out
        install(target, built)


class _Count:
    """Counts the packages that `go build -v` names as it compiles them."""

    def __init__(self, text: str, total: int, say: Say) -> None:
        self.text, self.total, self.say = text, max(total, 1), say
        self.seen = 0
        say(text, 0.0)

    def __call__(self, line: str) -> None:
        self.seen += 1
        # What Go's own cache holds is not named; linking comes last and is silent.
        done = min(self.seen / self.total, 0.99)
        self.say(f"{self.text} ({self.seen} of {self.total} packages)", done)


@contextlib.contextmanager
def _work(target: Path, say: Say) -> Iterator[Path | None]:
    """A folder to build in; None if another process built the engine while this one waited.

    Two builds at once would take twice as long each, and twice the memory.
    """
    lock = target.with_name(f".{target.name}.lock")
    prefix = f".build-{target.name}-"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        waits = is_locked(lock)
        if waits:
            say(f"waiting for another process, which is building {target.name}")
        with locked(lock):
            if waits and target.exists():
                yield None
                return
            for left in target.parent.glob(f"{prefix}*"):  # by a build that was killed
                shutil.rmtree(left, ignore_errors=True)
            # Beside the result, so that moving it into place is a rename.
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as folder:
                yield Path(folder)
    except OSError as error:
        raise EngineError(
            f"{target.parent} can't be written: {error.strerror or error}",
            remedy="set TELEMETRY_ENGINES to a folder of yours, with 2 GB free",
        ) from error


def _generate_collector(go: str, module: Path, child_env: Mapping[str, str], say: Say) -> None:
    say("writing the collector's main package from collector/builder.yaml")
    generated = module.parent / "generated"
    manifest = module.parent / "builder.yaml"
    # The builder takes the folder it writes to from its manifest only.
    text = packaged_files.path("collector/builder.yaml").read_text()
    manifest.write_text(text.replace("dist:\n", f"dist:\n  output_path: {generated}\n", 1))
    command = [go, "tool", "builder", f"--config={manifest}"]
    _go([*command, "--skip-compilation", "--skip-get-modules"], module, child_env)
    for source in generated.glob("*.go"):
        # Ours are the pins: its go.mod stays behind.
        shutil.copy(source, module / source.name)


def _go(
    command: list[str],
    folder: Path,
    child_env: Mapping[str, str],
    on_line: Callable[[str], None] | None = None,
) -> list[str]:
    """Run Go; returns the lines it printed."""
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=dict(child_env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=_nice,
    ) as running:
        assert running.stdout is not None
        try:
            for line in running.stdout:
                if line.startswith("go: downloading"):
                    continue
                lines.append(line.rstrip())
                if on_line is not None:
                    on_line(lines[-1])
        except BaseException:
            running.kill()
            running.wait()
            raise
    if running.returncode:
        raise EngineError(
            f"go {command[1]} failed: " + " | ".join(lines[-4:]),
            remedy="is Go new enough (1.26), and can it reach its module proxy?",
        )
    return lines


def _nice() -> None:
    os.nice(5)  # whoever works on this machine comes first
