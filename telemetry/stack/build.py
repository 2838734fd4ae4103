"""Engines built with Go from pinned modules.

`engines/<name>/go.mod` and `go.sum` are the pins and the checksums; nothing that they don't
name is compiled. The collector's main package is written by the collector's own builder, from
collector/builder.yaml.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from telemetry import files
from telemetry.stack.engines import FOLDER, Engine, EngineError, Say
from telemetry.stack.fetch import install


def build(engine: Engine, target: Path, environ: Mapping[str, str], say: Say) -> None:
    """Compile the engine and its tools into ``target``.

    Args:
        engine: which.
        target: folder its programs are put in, whole or not at all.
        environ: PATH and Go's own variables.
        say: told of progress.

    Raises:
        EngineError: Go is missing, or the build failed; says its last lines.
    """
    go = shutil.which("go", path=environ.get("PATH"))
    if go is None:
        raise EngineError("Go is not installed", remedy="install Go 1.26 or later")
    try:
        (target.parent).mkdir(parents=True, exist_ok=True)
        # Beside the cache, so that moving the result into place is a rename.
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".build-{engine.name}-"))
    except OSError as error:
        raise EngineError(
            f"{target.parent} can't be written: {error}",
            remedy="set TELEMETRY_ENGINES to a folder of yours",
        ) from error
    try:
        module = work / "module"
        shutil.copytree(FOLDER / engine.name, module)
        packages = list(engine.packages)
        if engine.name == "collector":
            _generate_collector(go, module, environ, say)
            packages = ["."]
        built: dict[str, bytes | Path] = {}
        for program, package in zip(engine.programs, packages, strict=True):
            say(f"building {program} {engine.version} with Go, some minutes the first time")
            out = work / program
            flags = ["-trimpath", "-mod=readonly", f"-tags={engine.tags}"]
            link = f"-ldflags=-s -w {engine.fill(engine.ldflags)}".rstrip()
            _go([go, "build", *flags, link, "-o", str(out), package], module, environ)
            built[program] = out
        install(target, built)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _generate_collector(go: str, module: Path, environ: Mapping[str, str], say: Say) -> None:
    say("writing the collector's main package from collector/builder.yaml")
    generated = module.parent / "generated"
    manifest = module.parent / "builder.yaml"
    # The builder takes the folder it writes to from its manifest only.
    text = files.path("collector/builder.yaml").read_text()
    manifest.write_text(text.replace("dist:\n", f"dist:\n  output_path: {generated}\n", 1))
    command = [go, "tool", "builder", f"--config={manifest}"]
    _go([*command, "--skip-compilation", "--skip-get-modules"], module, environ)
    for source in generated.glob("*.go"):
        # Ours are the pins: its go.mod stays behind.
        shutil.copy(source, module / source.name)


def _go(command: list[str], folder: Path, environ: Mapping[str, str]) -> None:
    env = {**environ, "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_nice,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if not line.startswith("go: download")]
        raise EngineError(
            f"{' '.join(command[1:3])} failed: " + " | ".join(lines[-4:]),
            remedy="is Go new enough (1.26), and can it reach its module proxy?",
        )


def _nice() -> None:
    os.nice(5)  # whoever works on this machine comes first
