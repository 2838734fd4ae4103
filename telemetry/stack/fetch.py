"""Engines from their official releases, with their checksums."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

from telemetry.stack.engines import Engine, EngineError, Say

CONNECT_TIMEOUT_S = 5.0  # a machine without internet should move on, not hang; a judgement
_CHUNK = 1 << 20


def fetch(engine: Engine, target: Path, environ: Mapping[str, str], say: Say) -> None:
    """Download, check and unpack the release into ``target``.

    Args:
        engine: which.
        target: folder its programs are put in, whole or not at all.
        environ: TELEMETRY_RELEASES replaces ``https://github.com``, for a mirror that lays
            files out the same way.
        say: told of progress.

    Raises:
        EngineError: unreachable, torn, or not what its checksum says.
    """
    address = engine.fill(engine.release)
    if mirror := environ.get("TELEMETRY_RELEASES"):
        address = address.replace("https://github.com", mirror.rstrip("/"))
    folder, _, name = address.rpartition("/")
    expected = _checksum(engine, folder, name)
    say(f"fetching {address}")
    data = _download(address, say)
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise EngineError(
            f"{name} has the checksum {actual}, its release says {expected}",
            remedy="try again; if it stays so, tell the release's maintainers",
        )
    programs = dict(zip(engine.programs, map(engine.fill, engine.members), strict=True))
    install(target, {p: _member(name, data, member) for p, member in programs.items()})


def install(target: Path, programs: Mapping[str, bytes | Path]) -> None:
    """Put programs into ``target``: all of them, or none. Never a partial file in its place."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    except OSError as error:
        raise EngineError(
            f"{target.parent} can't be written: {error}",
            remedy="set TELEMETRY_ENGINES to a folder of yours",
        ) from error
    try:
        for name, content in programs.items():
            if isinstance(content, Path):
                shutil.move(content, fresh / name)
            else:
                (fresh / name).write_bytes(content)
            (fresh / name).chmod(0o755)
        fresh.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        os.rename(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _checksum(engine: Engine, folder: str, name: str) -> str:
    reasons = []
    for file in engine.checksums:
        try:
            text = _open(f"{folder}/{file}").read().decode()
        except EngineError as error:
            reasons.append(error.message)
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
        told = 0
        try:
            while chunk := response.read(_CHUNK):
                data.write(chunk)
                if size and data.tell() * 10 // size > told:
                    told = data.tell() * 10 // size
                    say(f"fetched {data.tell() >> 20} of {size >> 20} MiB")
        except OSError as error:
            raise EngineError(f"{address} broke off: {error}") from error
        if size and data.tell() != size:
            raise EngineError(f"{address} broke off after {data.tell()} of {size} bytes")
        return data.getvalue()


def _open(address: str) -> urllib.request.addinfourl:
    try:
        response: urllib.request.addinfourl = urllib.request.urlopen(
            address, timeout=CONNECT_TIMEOUT_S
        )
        return response
    except urllib.error.HTTPError as error:
        error.close()
        raise EngineError(f"{address} answered {error.code}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise EngineError(f"{address} can't be reached ({reason})") from error


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
