"""Engines from their official releases, with their checksums."""

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
from telemetry.stack.engines.engine import Engine, EngineError, Say

CONNECT_TIMEOUT_S = 5.0  # a machine without internet should move on, not hang; a judgement
_CHUNK = 1 << 20


class Unreachable(EngineError):
    """Nobody answers at an address."""


def fetch(engine: Engine, target: Path, settings: StackSettings, say: Say) -> None:
    """Download, check and unpack the release into ``target``.

    Args:
        engine: which.
        target: folder its programs are put in, whole or not at all.
        settings: its ``releases`` replaces ``https://github.com`` and ``https://grafana.com``,
            for a mirror that lays files out the same way.
        say: told of progress.

    Raises:
        EngineError: unreachable, torn, or not what its checksum says.
    """
    address = _address(engine, settings)
    folder, _, name = address.rpartition("/")
    data = _checked(address, _checksum(engine, folder, name), say)
    programs = dict(zip(engine.programs, map(engine.fill, engine.members), strict=True))
    install(target, {p: _member(name, data, member) for p, member in programs.items()})


def fetch_tree(engine: Engine, target: Path, settings: StackSettings, say: Say) -> None:
    """Download, check and unpack a release of which the whole folder is kept.

    Its address answers JSON with the archive's ``url`` and ``sha256``. Arguments and errors as
    for ``fetch``.
    """
    address = _address(engine, settings)
    try:
        with _open(address) as response:
            answer = json.load(response)
        archive, expected = answer["url"], answer["sha256"]
        if not (isinstance(archive, str) and isinstance(expected, str)):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{address} names no archive with a checksum") from error
    data = _checked(archive, expected, say)
    with _fresh(target) as fresh:
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                tar.extractall(fresh / "unpacked", filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise EngineError(f"{archive} is not a whole archive: {error}") from error
        tops = list((fresh / "unpacked").iterdir())
        if len(tops) != 1:
            raise EngineError(f"{archive} is not one folder: {', '.join(t.name for t in tops)}")
        _replace(tops[0], target)


def install(target: Path, programs: Mapping[str, bytes | Path]) -> None:
    """Put programs into ``target``: all of them, or none. Never a partial file in its place."""
    with _fresh(target) as fresh:
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
def _fresh(target: Path) -> Iterator[Path]:
    """A folder beside ``target``, so that moving from it into place is a rename."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as fresh:
            yield Path(fresh)
    except OSError as error:
        raise EngineError(
            f"{target.parent} can't be written: {error.strerror or error}",
            remedy="set TELEMETRY_ENGINES to a folder of yours, with 2 GB free",
        ) from error


def _replace(whole: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    try:
        os.rename(whole, target)
    except OSError:
        if not target.exists():
            raise
        # Another `up` put the same there meanwhile.


def _address(engine: Engine, settings: StackSettings) -> str:
    address = engine.fill(engine.release)
    if mirror := settings.releases:
        for origin in ("https://github.com", "https://grafana.com"):
            address = address.replace(origin, mirror.rstrip("/"))
    return address


def _checked(address: str, expected: str, say: Say) -> bytes:
    say(f"fetching {address}")
    data = _download(address, say)
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise EngineError(
            f"{address.rpartition('/')[2]} has the checksum {actual}, its release says {expected}",
            remedy="try again; if it stays so, tell the release's maintainers",
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
                break  # the next one is no nearer
            continue
        for line in text.splitlines():
            digest, _, listed = line.strip().partition(" ")
            if listed.strip().lstrip("*") == name:
                return digest.lower()
        reasons.append(f"{file} doesn't list {name}")
    raise EngineError("; ".join(reasons))


def _download(address: str, say: Say) -> bytes:
    with _open(address) as response:
        size = int(response.headers.get("content-length") or 0)
        data = io.BytesIO()
        try:
            while chunk := response.read(_CHUNK):
                data.write(chunk)
                if size:
                    text = f"fetched {data.tell() >> 20} of {size >> 20} MiB"
                    say(text, data.tell() / size)
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(f"{address} broke off: {error}") from error
        if size and data.tell() != size:
            raise EngineError(f"{address} broke off after {data.tell()} of {size} bytes")
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
    """One file of an archive, by its name without folders."""
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
        raise EngineError(f"{archive} is not a whole archive: {error}") from error
    raise EngineError(f"{archive} holds no {member}")
