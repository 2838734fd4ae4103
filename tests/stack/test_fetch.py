"""Engines from releases, on a local server with the paths of GitHub and grafana.com."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from telemetry.settings.stack import StackSettings
from telemetry.stack.engines import engine as engines
from telemetry.stack.engines import ensure, fetch, grafana
from telemetry.stack.engines.engine import EngineError, ignore_progress
from tests.fixtures.releases import Releases, tarred, zipped

TABLE = engines.table()


def settings(releases: Releases, tmp_path: Path, **more: str) -> StackSettings:
    given = {
        "TELEMETRY_RELEASES": releases.url,
        "TELEMETRY_ENGINES": str(tmp_path / "engines"),
        "PATH": str(tmp_path),
    }
    return StackSettings.from_env({**given, **more})


def left(tmp_path: Path) -> list[str]:
    """Return everything in the cache, hidden files too."""
    return sorted(
        str(p.relative_to(tmp_path / "engines")) for p in (tmp_path / "engines").rglob("*")
    )


PROMETHEUS = {
    "prometheus-3.16.0.linux-amd64/LICENSE": b"a license",
    "prometheus-3.16.0.linux-amd64/prometheus": b"#!prometheus",
    "prometheus-3.16.0.linux-amd64/promtool": b"#!promtool",
}


def test_programs_of_tar_archive_are_installed(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["prometheus"]
    releases.publish(engine, tarred(PROMETHEUS))
    reported: list[tuple[str, float | None]] = []
    program = ensure.ensure(
        engine,
        settings(releases, tmp_path),
        "release",
        lambda text, done=None: reported.append((text, done)),
    )
    folder = f"prometheus-{engine.version}"
    assert left(tmp_path) == [folder, f"{folder}/prometheus", f"{folder}/promtool"]
    assert program.read_bytes() == b"#!prometheus"
    assert program.stat().st_mode & 0o777 == 0o755
    assert any(done == 1.0 for _, done in reported), "progress reaches its end"
    assert ensure.find(engine, settings(releases, tmp_path)) == program


def test_program_of_zip_archive_is_named_after_engine(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["loki"]
    releases.publish(engine, zipped({engine.fill("loki-{os}-{arch}"): b"#!loki"}))
    program = ensure.ensure(engine, settings(releases, tmp_path), "release")
    assert program.name == "loki"
    assert program.read_bytes() == b"#!loki"


def test_checksum_is_found_in_second_file(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["collector"]
    releases.publish(engine, tarred({"otelcol-contrib": b"#!collector"}))
    folder = releases.archive(engine).rpartition("/")[0]
    listed = releases.files.pop(f"{folder}/{engine.checksums[0]}")
    releases.files[f"{folder}/{engine.checksums[1]}"] = listed
    program = ensure.ensure(engine, settings(releases, tmp_path), "release")
    assert program.name == "otelcol-telemetry"


def test_wrong_checksum_leaves_no_files(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["prometheus"]
    data = tarred(PROMETHEUS)
    releases.publish(engine, data, checksum="a" * 64)
    actual = hashlib.sha256(data).hexdigest()
    with pytest.raises(
        EngineError, match=f"has the checksum {actual}, not {'a' * 64} as published"
    ):
        ensure.ensure(engine, settings(releases, tmp_path), "release")
    assert not (tmp_path / "engines").exists()


def test_incomplete_download_leaves_no_files(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["prometheus"]
    releases.publish(engine, tarred(PROMETHEUS))
    releases.torn.add(releases.archive(engine))
    with pytest.raises(EngineError, match="broke off"):
        ensure.ensure(engine, settings(releases, tmp_path), "release")
    assert not (tmp_path / "engines").exists()


def test_file_with_valid_checksum_that_is_not_an_archive_fails(
    releases: Releases, tmp_path: Path
) -> None:
    for name, data in (("prometheus", b"<html>a captive portal</html>"), ("loki", b"PK nonsense")):
        releases.publish(TABLE[name], data)
        with pytest.raises(EngineError, match="is not a complete archive"):
            ensure.ensure(TABLE[name], settings(releases, tmp_path), "release")
    assert not list((tmp_path / "engines").glob("*-*")), "no partial files"


def test_archive_without_program_fails(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["prometheus"]
    releases.publish(engine, tarred({"prometheus-3.16.0.linux-amd64/prometheus": b"only one"}))
    with pytest.raises(EngineError, match="doesn't contain promtool"):
        ensure.ensure(engine, settings(releases, tmp_path), "release")


def test_missing_release_fails_before_download(releases: Releases, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"sha256sums\.txt answered 404"):
        ensure.ensure(TABLE["alertmanager"], settings(releases, tmp_path), "release")
    assert len(releases.asked) == 1, "without a checksum nothing is fetched"


def test_unlisted_checksum_fails(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["alertmanager"]
    releases.publish(engine, tarred({"alertmanager": b"#!"}))
    folder = releases.archive(engine).rpartition("/")[0]
    releases.files[f"{folder}/sha256sums.txt"] = b"0  another\n"
    with pytest.raises(EngineError, match=r"sha256sums\.txt doesn't list alertmanager-"):
        ensure.ensure(engine, settings(releases, tmp_path), "release")


def test_failed_download_keeps_installed_program(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["loki"]
    releases.publish(engine, zipped({engine.fill("loki-{os}-{arch}"): b"#!loki"}))
    program = ensure.ensure(engine, settings(releases, tmp_path), "release")
    releases.torn.add(releases.archive(engine))
    with pytest.raises(EngineError):
        ensure.ensure(engine, settings(releases, tmp_path), "release")
    assert program.read_bytes() == b"#!loki"


def test_unwritable_cache_is_reported_with_remedy(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["loki"]
    releases.publish(engine, zipped({engine.fill("loki-{os}-{arch}"): b"#!loki"}))
    (tmp_path / "engines").write_text("a file where a folder should be")
    with pytest.raises(EngineError, match="can't be written") as caught:
        fetch.fetch(
            engine, tmp_path / "engines" / "loki", settings(releases, tmp_path), ignore_progress
        )
    assert "TELEMETRY_ENGINES" in caught.value.remedy


# --- Grafana: its release is described in JSON ----------------------------------------------------


def _publish_grafana(releases: Releases, data: bytes, **changed: Any) -> None:
    engine = TABLE["grafana"]
    path = engine.fill(engine.release).removeprefix("https://grafana.com")
    releases.files["/oss/release/grafana.tar.gz"] = data
    answer = {
        "url": f"{releases.url}/oss/release/grafana.tar.gz",
        "sha256": hashlib.sha256(data).hexdigest(),
        **changed,
    }
    releases.files[path] = json.dumps(answer).encode()


GRAFANA = {
    "grafana-13.2.0/bin/grafana": b"#!grafana",
    "grafana-13.2.0/public/index.html": b"pages",
}


def test_whole_folder_of_grafana_is_installed(releases: Releases, tmp_path: Path) -> None:
    _publish_grafana(releases, tarred(GRAFANA))
    given = settings(releases, tmp_path)
    program, why_not = grafana.ensure(given, "auto", ignore_progress)
    assert why_not == ""
    assert program is not None
    assert program.read_bytes() == b"#!grafana"
    home = Path(grafana.home_of(program, given))
    assert (home / "public" / "index.html").read_bytes() == b"pages"


@pytest.mark.parametrize(
    ("data", "changed", "why"),
    [
        (tarred(GRAFANA), {"sha256": "b" * 64}, f"not {'b' * 64} as published"),
        (b"not an archive", {}, "is not a complete archive"),
        (tarred(GRAFANA | {"another/top": b"x"}), {}, "has more than one folder or none"),
        (tarred(GRAFANA), {"url": None}, "returned no archive with a checksum"),
    ],
)
def test_invalid_release_of_grafana_is_skipped_and_leaves_no_files(
    releases: Releases, tmp_path: Path, data: bytes, changed: dict[str, Any], why: str
) -> None:
    """The stack runs without Grafana and reports why."""
    _publish_grafana(releases, data, **changed)
    program, why_not = grafana.ensure(settings(releases, tmp_path), "auto", ignore_progress)
    assert program is None
    assert why in why_not
    assert left(tmp_path) == [".grafana-not-reached"]


def test_failed_download_of_grafana_is_not_repeated_within_a_day(
    releases: Releases, tmp_path: Path
) -> None:
    """Warm starts stay quick without internet; `--engines release` always tries."""
    given = settings(releases, tmp_path)
    grafana.ensure(given, "auto", ignore_progress)
    asked = len(releases.asked)
    program, why_not = grafana.ensure(given, "auto", ignore_progress)
    assert program is None
    assert "a download failed within the last 24 hours" in why_not
    assert len(releases.asked) == asked
    _publish_grafana(releases, tarred(GRAFANA))
    assert grafana.ensure(given, "release", ignore_progress)[0] is not None


def test_grafana_that_is_off_is_not_fetched(releases: Releases, tmp_path: Path) -> None:
    given = settings(releases, tmp_path, TELEMETRY_GRAFANA="off")
    assert grafana.ensure(given, "auto", ignore_progress) == (
        None,
        "TELEMETRY_GRAFANA is off",
    )
    assert releases.asked == []
