"""Build engines with Go from pinned modules.

`engines/<name>/go.mod` holds the pins and `go.sum` the checksums. Only modules that they name are
compiled. The collector's own builder generates the collector's main package from
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
from telemetry.stack.engines.engine import FOLDER, Engine, EngineError, Report
from telemetry.stack.engines.fetch import install
from telemetry.system import packaged_files
from telemetry.system.file_locks import is_locked, locked


def build(engine: Engine, target: Path, settings: StackSettings, report: Report) -> None:
    """Compile the engine and its tools into ``target``.

    Args:
        engine: the engine to build.
        target: folder for its programs; created only if the build succeeds.
        settings: PATH and Go's own variables.
        report: called with the progress.

    Raises:
        EngineError: Go is missing, or the build failed; the message has its last lines.
    """
    go = shutil.which("go", path=settings.search_path)
    if go is None:
        raise EngineError("Go is not installed", remedy="install Go 1.26 or later")
    if not (FOLDER / engine.name).is_dir():
        raise EngineError(f"Go can't build {engine.name}: it has no pinned modules")
    child_env = {**settings.child_env, "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
    with _work(target, report) as work:
        if work is None:
            return
        module = work / "module"
        shutil.copytree(FOLDER / engine.name, module)
        packages = list(engine.packages)
        if engine.name == "collector":
            _generate_collector(go, module, child_env, report)
            packages = ["."]
        built: dict[str, bytes | Path] = {}
        for program, package in zip(engine.programs, packages, strict=True):
            report(f"{program} {engine.version}: finding its modules")
            flags = ["-trimpath", "-mod=readonly", f"-tags={engine.tags}"]
            parts = _go([go, "list", "-deps", *flags, package], module, child_env)
            out = work / program
            link = f"-ldflags=-s -w {engine.fill(engine.ldflags)}".rstrip()
            command = [go, "build", "-v", *flags, link, "-o", str(out), package]
            compiled = _Count(f"{program} {engine.version}: compiling", len(parts), report)
            _go(command, module, child_env, compiled)
            built[program] = out
        install(target, built)


class _Count:
    """Report how many packages `go build -v` has compiled."""

    def __init__(self, text: str, total: int, report: Report) -> None:
        self.text, self.total, self.report = text, max(total, 1), report
        self.seen = 0
        report(text, 0.0)

    def __call__(self, line: str) -> None:
        self.seen += 1
        # Go doesn't list packages from its build cache, and prints nothing while it links.
        done = min(self.seen / self.total, 0.99)
        self.report(f"{self.text} ({self.seen} of {self.total} packages)", done)


@contextlib.contextmanager
def _work(target: Path, report: Report) -> Iterator[Path | None]:
    """Create a folder to build in; None if another process built the engine in the meantime.

    A lock allows one build at a time: two would each take twice as long and need twice the memory.
    """
    lock = target.with_name(f".{target.name}.lock")
    prefix = f".build-{target.name}-"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        waits = is_locked(lock)
        if waits:
            report(f"waiting for another process, which is building {target.name}")
        with locked(lock):
            if waits and target.exists():
                yield None
                return
            for left in target.parent.glob(f"{prefix}*"):  # of a build that was killed
                shutil.rmtree(left, ignore_errors=True)
            # In the same folder as the result, so that a rename moves the result into place.
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as folder:
                yield Path(folder)
    except OSError as error:
        raise EngineError(
            f"{target.parent} can't be written: {error.strerror or error}",
            remedy="set TELEMETRY_ENGINES to a folder that you can write, with 2 GB free",
        ) from error


def _generate_collector(
    go: str, module: Path, child_env: Mapping[str, str], report: Report
) -> None:
    report("generating the collector's main package from collector/builder.yaml")
    generated = module.parent / "generated"
    manifest = module.parent / "builder.yaml"
    # The builder reads its output folder from the manifest only.
    text = packaged_files.path("collector/builder.yaml").read_text()
    manifest.write_text(text.replace("dist:\n", f"dist:\n  output_path: {generated}\n", 1))
    command = [go, "tool", "builder", f"--config={manifest}"]
    _go([*command, "--skip-compilation", "--skip-get-modules"], module, child_env)
    for source in generated.glob("*.go"):
        # Without the generated go.mod: the pins are in ours.
        shutil.copy(source, module / source.name)


def _go(
    command: list[str],
    folder: Path,
    child_env: Mapping[str, str],
    on_line: Callable[[str], None] | None = None,
) -> list[str]:
    """Run Go and return the lines that it printed."""
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
            remedy="check that Go is 1.26 or later and can reach its module proxy",
        )
    return lines


def _nice() -> None:
    os.nice(5)  # keep the machine usable during a build
