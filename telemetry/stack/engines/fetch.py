"""Download engines from their official releases and verify their checksums."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from telemetry.settings.stack import StackSettings
from telemetry.stack.engines.engine import Engine, EngineError, Report

# Without internet the next source is tried soon; chosen by judgement, not measured.
CONNECT_TIMEOUT_S = 5.0
_CHUNK = 1 << 20


class Unreachable(EngineError):
    """An address can't be reached."""


def fetch(engine: Engine, target: Path, settings: StackSettings, report: Report) -> None:
    """Download, check and unpack the release into ``target``.

    Args:
        engine: the engine.
        target: folder for its programs; created only if all of them are complete.
        settings: its ``releases`` replaces ``https://github.com`` and ``https://grafana.com``,
            for a mirror with the same paths.
        report: called with the progress.

    Raises:
        EngineError: the release is unreachable, incomplete, or doesn't match its checksum.
    """
    address = _address(engine, settings)
    folder, _, name = address.rpartition("/")
    data = _download_checked(address, _checksum(engine, folder, name), report)
    programs = dict(zip(engine.programs, map(engine.fill, engine.members), strict=True))
    install(target, {p: _member(name, data, member) for p, member in programs.items()})


def fetch_tree(engine: Engine, target: Path, settings: StackSettings, report: Report) -> None:
    """Download, check and unpack a release, and keep its whole folder.

    The release's address returns JSON with the archive's ``url`` and ``sha256``. Arguments and
    errors are those of ``fetch``.
    """
    address = _address(engine, settings)
    try:
        with _open(address) as response:
            answer = json.load(response)
        archive, expected = answer["url"], answer["sha256"]
        if not (isinstance(archive, str) and isinstance(expected, str)):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{address} returned no archive with a checksum") from error
    data = _download_checked(archive, expected, report)
    with _temporary_folder(target) as fresh:
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                tar.extractall(fresh / "unpacked", filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise EngineError(f"{archive} is not a complete archive: {error}") from error
        tops = list((fresh / "unpacked").iterdir())
        if len(tops) != 1:
            raise EngineError(
                f"{archive} has more than one folder or none: {', '.join(t.name for t in tops)}"
            )
        _replace(tops[0], target)


def install(target: Path, programs: Mapping[str, bytes | Path]) -> None:
    """Install programs into ``target`` atomically: all of them or none, never a partial file."""
    with _temporary_folder(target) as fresh:
        whole = fresh / target.name
        whole.mkdir()
        for name, content in programs.items():
            if isinstance(content, Path):
                shutil.move(content, whole / name)
            else:
                (whole / name).write_bytes(content)
            (whole / name).chmod(0o755)
        _replace(whole, target)


@contextlib.contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """Create a temporary folder beside ``target``, so that a rename moves a result into place."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as fresh:
            yield Path(fresh)
    except OSError as error:
        raise EngineError(
            f"{target.parent} can't be written: {error.strerror or error}",
            remedy="set TELEMETRY_ENGINES to a folder that you can write, with 2 GB free",
        ) from error


def _replace(whole: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    try:
        os.rename(whole, target)
    except OSError:
        if not target.exists():
            raise
        # Another `up` installed the same engine at the same time.


def _address(engine: Engine, settings: StackSettings) -> str:
    address = engine.fill(engine.release)
    if mirror := settings.releases:
        for origin in ("https://github.com", "https://grafana.com"):
            address = address.replace(origin, mirror.rstrip("/"))
    return address


def _download_checked(address: str, expected: str, report: Report) -> bytes:
    report(f"fetching {address}")
    data = _download(address, report)
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise EngineError(
            f"{address.rpartition('/')[2]} has the checksum {actual}, not {expected} as published",
            remedy="try again; if it fails again, report it to the release's maintainers",
        )
    return data


def _checksum(engine: Engine, folder: str, name: str) -> str:
    reasons = []
    for file in engine.checksums:
        try:
            with _open(f"{folder}/{file}") as response:
                text: str = response.read().decode()
        except EngineError as error:
            reasons.append(error.message)
            if isinstance(error, Unreachable):
                break  # the next file is on the same server
            continue
        for line in text.splitlines():
            digest, _, listed = line.strip().partition(" ")
            if listed.strip().lstrip("*") == name:
                return digest.lower()
        reasons.append(f"{file} doesn't list {name}")
    raise EngineError("; ".join(reasons))


def _download(address: str, report: Report) -> bytes:
    with _open(address) as response:
        size = int(response.headers.get("content-length") or 0)
        data = io.BytesIO()
        try:
            while chunk := response.read(_CHUNK):
                data.write(chunk)
                if size:
                    text = f"fetched {data.tell() >> 20} of {size >> 20} MiB"
                    report(text, data.tell() / size)
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"the download of {address} broke off: {error}") from error
        if size and data.tell() != size:
            raise EngineError(
                f"the download of {address} broke off after {data.tell()} of {size} bytes"
            )
        return data.getvalue()


def _open(address: str) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            address, timeout=CONNECT_TIMEOUT_S
        )
        return response
    except urllib.error.HTTPError as error:
        error.close()
        raise EngineError(f"{address} answered {error.code}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"{address} can't be reached ({reason})") from error


def _member(archive: str, data: bytes, member: str) -> bytes:
    """Read one file of an archive, found by its name without folders."""
    try:
        if archive.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(data)) as zipped:
                for info in zipped.infolist():
                    if Path(info.filename).name == member:
                        return zipped.read(info)
        else:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                for entry in tar:
                    if entry.isfile() and Path(entry.name).name == member:
                        file = tar.extractfile(entry)
                        if file is not None:
                            return file.read()
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise EngineError(f"{archive} is not a complete archive: {error}") from error
    raise EngineError(f"{archive} doesn't contain {member}")
