"""Engines from releases: a local server lays them out as GitHub and grafana.com do."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from telemetry.stack import engines, fetch, grafana
from telemetry.stack.engines import Engine, EngineError, say_nothing

TABLE = engines.table()


@dataclass
class Releases:
    """A release server.

    Args:
        url: its address, for TELEMETRY_RELEASES.
        files: what it has, by path.
        torn: paths of which only the first half is sent.
        asked: paths that were asked for.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    torn: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def publish(self, engine: Engine, data: bytes, checksum: str = "") -> None:
        """A release with its checksum file; ``checksum`` for one that is not its own."""
        path = engine.fill(engine.release).removeprefix("https://github.com")
        folder, _, name = path.rpartition("/")
        digest = checksum or hashlib.sha256(data).hexdigest()
        self.files[path] = data
        other = "0" * 64 + "  another-file.tar.gz\n"
        self.files[f"{folder}/{engine.checksums[0]}"] = f"{other}{digest}  {name}\n".encode()

    def archive(self, engine: Engine) -> str:
        return engine.fill(engine.release).removeprefix("https://github.com")


@pytest.fixture
def releases() -> Iterator[Releases]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            data = found.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if self.path in found.torn else data)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Releases(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def tarred(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def env(releases: Releases, tmp_path: Path) -> dict[str, str]:
    return {
        "TELEMETRY_RELEASES": releases.url,
        "TELEMETRY_ENGINES": str(tmp_path / "engines"),
        "PATH": str(tmp_path),
    }


def left(tmp_path: Path) -> list[str]:
    """Everything in the cache, hidden names too."""
    return sorted(
        str(p.relative_to(tmp_path / "engines")) for p in (tmp_path / "engines").rglob("*")
    )


PROMETHEUS = {
    "prometheus-3.16.0.linux-amd64/LICENSE": b"a license",
    "prometheus-3.16.0.linux-amd64/prometheus": b"#!prometheus",
    "prometheus-3.16.0.linux-amd64/promtool": b"#!promtool",
}


def test_a_tar_archive_s_programs_are_kept_and_can_run(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["prometheus"]
    releases.publish(engine, tarred(PROMETHEUS))
    said: list[tuple[str, float | None]] = []
    program = engines.ensure(
        engine,
        env(releases, tmp_path),
        "release",
        lambda text, done=None: said.append((text, done)),
    )
    folder = f"prometheus-{engine.version}"
    assert left(tmp_path) == [folder, f"{folder}/prometheus", f"{folder}/promtool"]
    assert program.read_bytes() == b"#!prometheus"
    assert program.stat().st_mode & 0o777 == 0o755
    assert any(done == 1.0 for _, done in said), "progress reaches its end"
    assert engines.find(engine, env(releases, tmp_path)) == program


def test_a_zip_archive_s_program_gets_the_engine_s_name(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["loki"]
    releases.publish(engine, zipped({engine.fill("loki-{os}-{arch}"): b"#!loki"}))
    program = engines.ensure(engine, env(releases, tmp_path), "release")
    assert program.name == "loki"
    assert program.read_bytes() == b"#!loki"


def test_the_checksums_may_stand_in_the_second_file(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["collector"]
    releases.publish(engine, tarred({"otelcol-contrib": b"#!collector"}))
    folder = releases.archive(engine).rpartition("/")[0]
    listed = releases.files.pop(f"{folder}/{engine.checksums[0]}")
    releases.files[f"{folder}/{engine.checksums[1]}"] = listed
    program = engines.ensure(engine, env(releases, tmp_path), "release")
    assert program.name == "otelcol-telemetry"


def test_a_wrong_checksum_leaves_nothing(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["prometheus"]
    data = tarred(PROMETHEUS)
    releases.publish(engine, data, checksum="a" * 64)
    actual = hashlib.sha256(data).hexdigest()
    with pytest.raises(
        EngineError, match=f"has the checksum {actual}, its release says {'a' * 64}"
    ):
        engines.ensure(engine, env(releases, tmp_path), "release")
    assert not (tmp_path / "engines").exists()


def test_a_torn_download_leaves_nothing(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["prometheus"]
    releases.publish(engine, tarred(PROMETHEUS))
    releases.torn.add(releases.archive(engine))
    with pytest.raises(EngineError, match="broke off"):
        engines.ensure(engine, env(releases, tmp_path), "release")
    assert not (tmp_path / "engines").exists()


def test_an_archive_that_lists_a_right_checksum_but_is_none(
    releases: Releases, tmp_path: Path
) -> None:
    for name, data in (("prometheus", b"<html>a captive portal</html>"), ("loki", b"PK nonsense")):
        releases.publish(TABLE[name], data)
        with pytest.raises(EngineError, match="is not a whole archive"):
            engines.ensure(TABLE[name], env(releases, tmp_path), "release")
    assert not list((tmp_path / "engines").glob("*-*")), "nothing half-made"


def test_an_archive_without_the_program(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["prometheus"]
    releases.publish(engine, tarred({"prometheus-3.16.0.linux-amd64/prometheus": b"only one"}))
    with pytest.raises(EngineError, match="holds no promtool"):
        engines.ensure(engine, env(releases, tmp_path), "release")


def test_a_release_that_is_not_there(releases: Releases, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"sha256sums\.txt answered 404"):
        engines.ensure(TABLE["alertmanager"], env(releases, tmp_path), "release")
    assert len(releases.asked) == 1, "without a checksum nothing is fetched"


def test_a_release_whose_checksums_do_not_list_it(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["alertmanager"]
    releases.publish(engine, tarred({"alertmanager": b"#!"}))
    folder = releases.archive(engine).rpartition("/")[0]
    releases.files[f"{folder}/sha256sums.txt"] = b"0  another\n"
    with pytest.raises(EngineError, match=r"sha256sums\.txt doesn't list alertmanager-"):
        engines.ensure(engine, env(releases, tmp_path), "release")


def test_a_failed_download_keeps_what_was_there(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["loki"]
    releases.publish(engine, zipped({engine.fill("loki-{os}-{arch}"): b"#!loki"}))
    program = engines.ensure(engine, env(releases, tmp_path), "release")
    releases.torn.add(releases.archive(engine))
    with pytest.raises(EngineError):
        engines.ensure(engine, env(releases, tmp_path), "release")
    assert program.read_bytes() == b"#!loki"


def test_a_cache_that_can_not_be_written(releases: Releases, tmp_path: Path) -> None:
    engine = TABLE["loki"]
    releases.publish(engine, zipped({engine.fill("loki-{os}-{arch}"): b"#!loki"}))
    (tmp_path / "engines").write_text("a file where a folder should be")
    with pytest.raises(EngineError, match="can't be written") as caught:
        fetch.fetch(engine, tmp_path / "engines" / "loki", env(releases, tmp_path), say_nothing)
    assert "TELEMETRY_ENGINES" in caught.value.remedy


# --- Grafana: JSON names the archive -------------------------------------------------------------


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


def test_grafana_s_whole_folder_is_kept(releases: Releases, tmp_path: Path) -> None:
    _publish_grafana(releases, tarred(GRAFANA))
    environ = env(releases, tmp_path)
    program, why_not = grafana.ensure(environ, "auto", say_nothing)
    assert why_not == ""
    assert program is not None
    assert program.read_bytes() == b"#!grafana"
    home = Path(grafana.home_of(program, environ))
    assert (home / "public" / "index.html").read_bytes() == b"pages"


@pytest.mark.parametrize(
    ("data", "changed", "why"),
    [
        (tarred(GRAFANA), {"sha256": "b" * 64}, "its release says bbbb"),
        (b"not an archive", {}, "is not a whole archive"),
        (tarred(GRAFANA | {"another/top": b"x"}), {}, "is not one folder"),
        (tarred(GRAFANA), {"url": None}, "names no archive with a checksum"),
    ],
)
def test_a_grafana_that_is_not_what_it_should_be(
    releases: Releases, tmp_path: Path, data: bytes, changed: dict[str, Any], why: str
) -> None:
    """The stack goes without, says why, and leaves nothing behind."""
    _publish_grafana(releases, data, **changed)
    program, why_not = grafana.ensure(env(releases, tmp_path), "auto", say_nothing)
    assert program is None
    assert why in why_not
    assert left(tmp_path) == [".grafana-not-reached"]


def test_grafana_is_not_tried_again_at_each_start(releases: Releases, tmp_path: Path) -> None:
    """Warm starts stay quick without internet; asking for a release tries at once."""
    environ = env(releases, tmp_path)
    grafana.ensure(environ, "auto", say_nothing)
    asked = len(releases.asked)
    program, why_not = grafana.ensure(environ, "auto", say_nothing)
    assert program is None
    assert "lately" in why_not
    assert len(releases.asked) == asked
    _publish_grafana(releases, tarred(GRAFANA))
    assert grafana.ensure(environ, "release", say_nothing)[0] is not None


def test_grafana_can_be_off(releases: Releases, tmp_path: Path) -> None:
    environ = env(releases, tmp_path) | {"TELEMETRY_GRAFANA": "off"}
    assert grafana.ensure(environ, "auto", say_nothing) == (None, "TELEMETRY_GRAFANA is off")
    assert releases.asked == []
