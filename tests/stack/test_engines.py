"""The table of engines, and the search for an engine's program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from telemetry.settings.stack import StackSettings
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import ensure
from telemetry.stack.engines.engine import Engine, EngineError
from telemetry.system import packaged_files

TABLE = engines.table()
BUILT = [engine for engine in TABLE.values() if engine.packages or engine.name == "collector"]


def program(path: Path, text: str) -> Path:
    """Write a program that prints ``text`` when asked for its version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)
    return path


def _module_version(engine: Engine) -> str:
    """Return the version of a release's Go module: Prometheus 3.16.0 is 0.316.0."""
    if engine.name != "prometheus":
        return engine.version
    major, minor, patch = map(int, engine.version.split("."))
    return f"0.{major * 100 + minor}.{patch}"


@pytest.mark.parametrize("engine", BUILT, ids=lambda engine: engine.name)
def test_go_mod_has_version_of_table(engine: Engine) -> None:
    """The table and go.mod pin the same version."""
    go_mod = (engines.FOLDER / engine.name / "go.mod").read_text()
    assert (engines.FOLDER / engine.name / "go.sum").stat().st_size
    packages = engine.packages or ("go.opentelemetry.io/collector/cmd/builder",)
    for package in packages:
        assert re.search(rf"^(tool )?\s*{re.escape(package)}$", go_mod, re.MULTILINE), package
        pins = [
            version
            for module, version in re.findall(
                r"^\s*(?:require )?(\S+) v(\S+)", go_mod, re.MULTILINE
            )
            if package.startswith(f"{module}/") or package == module
        ]
        assert set(pins) == {_module_version(engine)}


def test_go_mod_of_collector_has_versions_of_its_manifest() -> None:
    """Every component of the manifest is in go.mod with the same version."""
    manifest = yaml.safe_load(packaged_files.path("collector/builder.yaml").read_text())
    assert manifest["dist"]["version"] == TABLE["collector"].version
    assert manifest["dist"]["name"] == TABLE["collector"].programs[0]
    go_mod = (engines.FOLDER / "collector" / "go.mod").read_text()
    pins = dict(re.findall(r"^\s*(\S+) (v\S+)", go_mod, re.MULTILINE))
    named = [
        entry["gomod"].split()
        for kind in ("receivers", "processors", "exporters", "extensions", "providers")
        for entry in manifest[kind]
    ]
    assert {module: pins.get(module) for module, _ in named} == dict(named)


def test_every_configured_component_is_in_manifest() -> None:
    """The manifest has every component that config.yaml uses."""
    manifest = yaml.safe_load(packaged_files.path("collector/builder.yaml").read_text())
    config = yaml.safe_load(packaged_files.path("collector/config.yaml").read_text())
    for kind, suffix in (("receivers", "receiver"), ("processors", "processor")):
        used = {name.partition("/")[0].replace("_", "") for name in config[kind]}
        built = {
            entry["gomod"].split()[0].rpartition("/")[2].removesuffix(suffix)
            for entry in manifest[kind]
        }
        assert used <= built


def test_cache_folder_is_set_by_environment(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert StackSettings.from_env(home).engines == tmp_path / ".cache/telemetry/engines"
    xdg = home | {"XDG_CACHE_HOME": str(tmp_path / "xdg")}
    assert StackSettings.from_env(xdg).engines == tmp_path / "xdg/telemetry/engines"
    assert (
        StackSettings.from_env(xdg | {"TELEMETRY_ENGINES": str(tmp_path / "e")}).engines
        == tmp_path / "e"
    )


def test_cache_comes_before_path(tmp_path: Path) -> None:
    engine = TABLE["prometheus"]
    on_path = program(tmp_path / "bin" / "prometheus", "prometheus, version 3.16.0")
    env = {"TELEMETRY_ENGINES": str(tmp_path / "cache"), "PATH": f"{on_path.parent}:/bin:/usr/bin"}
    assert ensure.find(engine, StackSettings.from_env(env)) == on_path
    by_hand = program(tmp_path / "cache" / "prometheus", "prometheus, version 3.16.0")
    assert ensure.find(engine, StackSettings.from_env(env)) == by_hand
    pinned = program(
        tmp_path / "cache" / f"prometheus-{engine.version}" / "prometheus",
        "prometheus, version 3.16.0",
    )
    assert ensure.find(engine, StackSettings.from_env(env)) == pinned
    assert ensure.installed_version(engine, pinned, StackSettings.from_env(env)) == engine.version


def test_old_program_on_path_is_skipped_and_reported(tmp_path: Path) -> None:
    program(tmp_path / "prometheus", "prometheus, version 2.53.1 (branch: HEAD)")
    reported: list[str] = []
    env = {"PATH": f"{tmp_path}:/bin:/usr/bin", "HOME": str(tmp_path)}
    found = ensure.find(
        TABLE["prometheus"],
        StackSettings.from_env(env),
        lambda text, done=None: reported.append(text),
    )
    assert found is None
    assert reported == [f"{tmp_path}/prometheus is version 2.53.1, older than 3.5.0"]


def test_program_without_version_is_skipped(tmp_path: Path) -> None:
    program(tmp_path / "loki", "a loki of another kind")
    env = {"PATH": f"{tmp_path}:/bin:/usr/bin", "HOME": str(tmp_path)}
    assert ensure.find(TABLE["loki"], StackSettings.from_env(env)) is None


def test_collector_is_found_by_its_released_name(tmp_path: Path) -> None:
    released = program(tmp_path / "otelcol-contrib", "otelcol-contrib version 0.160.0")
    env = {"PATH": f"{tmp_path}:/bin:/usr/bin", "HOME": str(tmp_path)}
    assert ensure.find(TABLE["collector"], StackSettings.from_env(env)) == released


def test_engine_without_any_source_fails_with_every_reason(tmp_path: Path) -> None:
    """Without internet and Go, one error names each source and why it failed."""
    reported: list[str] = []
    env = {
        "PATH": str(tmp_path),
        "HOME": str(tmp_path),
        "TELEMETRY_RELEASES": "http://127.0.0.1:9",  # the discard port: connections are refused
    }
    with pytest.raises(EngineError) as caught:
        ensure.ensure(
            TABLE["loki"],
            StackSettings.from_env(env),
            "auto",
            lambda text, done=None: reported.append(text),
        )
    message = caught.value.message
    assert message.startswith("loki 3.7.8 is unavailable: no suitable loki on PATH; release: ")
    assert "can't be reached" in message
    assert message.endswith("go: Go is not installed")
    assert "\n" not in message
    assert "install Go 1.26 or later" in caught.value.remedy
    assert caught.value.exit_code == 69
    assert any("Go is not installed" in text for text in reported), (
        "each source reports why it failed"
    )


def test_chosen_source_is_the_only_one_used(tmp_path: Path) -> None:
    """`--engines path` neither fetches nor builds; `--engines go` doesn't search PATH."""
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path), "TELEMETRY_RELEASES": "http://127.0.0.1:9"}
    with pytest.raises(EngineError, match=r"no suitable loki on PATH$"):
        ensure.ensure(TABLE["loki"], StackSettings.from_env(env), "path")
    program(tmp_path / "loki", "loki, version 3.7.8")
    with pytest.raises(EngineError, match=r"is unavailable: go: Go is not installed$"):
        ensure.ensure(TABLE["loki"], StackSettings.from_env(env), "go")
    with pytest.raises(EngineError, match=r"is unavailable: release: .*can't be reached"):
        ensure.ensure(TABLE["loki"], StackSettings.from_env(env), "release")
    assert [path.name for path in tmp_path.iterdir()] == ["loki"], "no partial files are left"
