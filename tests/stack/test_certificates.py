"""The certificates by which the engines know the stack."""

from __future__ import annotations

import datetime
import os
import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from telemetry.errors import TelemetryError
from telemetry.stack import certificates
from telemetry.system import packaged_files
from telemetry.system.tls import CA, CERTIFICATE, KEY, client_context

FILES = (CA, CERTIFICATE, KEY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certificates.ensure(tmp_path / "tls")
    return tmp_path / "tls"


def _contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def test_only_the_owner_can_read_them(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in FILES} == {0o600}


def test_usable_ones_are_kept(folder: Path) -> None:
    before = _contents(folder)
    assert certificates.problem(folder) == ""
    certificates.ensure(folder)
    assert _contents(folder) == before


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "other"])
def test_damaged_ones_are_made_again(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    """``other``: a file of another stack, as after a copy that was broken off."""
    if damage == "missing":
        (folder / name).unlink()
    elif damage == "empty":
        (folder / name).write_bytes(b"")
    else:
        certificates.ensure(tmp_path / "other")
        shutil.copy(tmp_path / "other" / name, folder / name)
    assert certificates.problem(folder)
    certificates.ensure(folder)
    assert certificates.problem(folder) == ""
    client_context(folder)


def test_those_that_end_soon_are_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _contents(folder)
    ends = x509.load_pem_x509_certificate(before[1]).not_valid_after_utc
    left = ends - datetime.datetime.now(datetime.UTC)
    monkeypatch.setattr(certificates, "RENEW", left + datetime.timedelta(minutes=1))
    assert "is valid until" in certificates.problem(folder)
    certificates.ensure(folder)
    assert not set(_contents(folder)) & set(before)


def test_certificates_of_another_authority_are_never_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _contents(folder)
    other = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another authority")])
    monkeypatch.setattr(certificates, "_AUTHORITY", other)
    monkeypatch.setattr(certificates, "RENEW", certificates.VALID * 2)
    certificates.ensure(folder)  # they may be valid for less time than ours
    (folder / KEY).write_bytes(b"")
    with pytest.raises(TelemetryError, match="can't be used") as caught:
        certificates.ensure(folder)
    assert "remove the three files" in caught.value.remedy
    assert _contents(folder)[:2] == before[:2]


def test_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TelemetryError, match="can't be written") as caught:
        certificates.ensure(tmp_path / "file")
    assert caught.value.exit_code == 73


def test_context_follows_new_certificates(folder: Path) -> None:
    before = client_context(folder)
    assert client_context(folder) is before, "made once: reading the public authorities is slow"
    (folder / KEY).unlink()
    certificates.ensure(folder)
    assert client_context(folder) is not before


def test_without_certificates_only_public_authorities_are_trusted(tmp_path: Path) -> None:
    assert client_context(tmp_path).verify_mode is ssl.CERT_REQUIRED


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which compose/secrets.sh ran."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    top = tmp_path_factory.mktemp("checkout")
    (top / "compose").mkdir()
    shutil.copy(packaged_files.path("compose/secrets.sh"), top / "compose")
    _run(top).check_returncode()
    return top


def _run(top: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "compose/secrets.sh"], cwd=top, capture_output=True, text=True, check=False
    )


def test_script_for_compose_makes_the_same(script: Path, folder: Path) -> None:
    assert certificates.problem(script / "secrets") == ""
    theirs, ours = (
        x509.load_pem_x509_certificate((where / CERTIFICATE).read_bytes())
        for where in (script / "secrets", folder)
    )
    for kind in (x509.SubjectAlternativeName, x509.KeyUsage, x509.ExtendedKeyUsage):
        assert theirs.extensions.get_extension_for_class(kind).value == (
            ours.extensions.get_extension_for_class(kind).value
        )


def test_script_for_compose_keeps_others_out(script: Path) -> None:
    assert stat.S_IMODE((script / "secrets.env").stat().st_mode) == 0o600
    assert stat.S_IMODE((script / "secrets").stat().st_mode) == 0o700
    assert sorted(os.listdir(script / "secrets")) == sorted(FILES), "not the authority's key"


def test_script_for_compose_never_replaces_secrets(script: Path) -> None:
    before = (script / "secrets.env").read_text()
    refused = _run(script)
    assert refused.returncode == 1
    assert "exists already" in refused.stderr
    assert (script / "secrets.env").read_text() == before
