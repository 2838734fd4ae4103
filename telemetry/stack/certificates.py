"""Make the certificates by which the engines know the stack.

A new authority signs one certificate, for engines and clients alike, and its key is thrown away:
nobody can make another. `compose/secrets.sh` does the same with openssl.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from telemetry.errors import TelemetryError, UnwritableError
from telemetry.settings.stack import ENGINE_NAMES
from telemetry.system.atomic_files import replace_file
from telemetry.system.file_locks import locked
from telemetry.system.tls import CA, CERTIFICATE, KEY

VALID = datetime.timedelta(days=3650)
# A stack may run for long without another `telemetry up`.
RENEW = datetime.timedelta(days=180)
NAMES = ("localhost", *ENGINE_NAMES)
"""Host names of the engines, natively and under compose."""
ADDRESSES = ("127.0.0.1", "::1")

_AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "telemetry authority")])
_STACK = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "telemetry stack")])


def ensure(folder: Path) -> None:
    """Make the certificates if they are missing, unusable or valid for less than half a year.

    Args:
        folder: where they are; each file gets mode 0600.

    Raises:
        TelemetryError: the folder can't be written, or has certificates of another authority that
            can't be used.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            wrong = problem(folder)
            if wrong and _is_foreign(folder):
                raise TelemetryError(
                    wrong,
                    remedy="renew them, or remove the three files to have new ones made",
                    exit_code=78,  # EX_CONFIG
                )
            if wrong:
                _make(folder)
    except OSError as error:
        what = f"the certificates in {folder}"
        raise UnwritableError(what, "TELEMETRY_TLS", error) from error


def problem(folder: Path) -> str:
    """Return what is wrong with the certificates; "" if nothing."""
    try:
        authority, stack = (
            x509.load_pem_x509_certificate((folder / name).read_bytes())
            for name in (CA, CERTIFICATE)
        )
        stack.verify_directly_issued_by(authority)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except FileNotFoundError as error:
        return f"{error.filename or folder / KEY} is missing"
    except (OSError, ValueError, TypeError, InvalidSignature) as error:
        return f"the certificates in {folder} can't be used: {error or type(error).__name__}"
    ends = stack.not_valid_after_utc
    least = RENEW if stack.issuer == _AUTHORITY else datetime.timedelta()
    if ends - datetime.datetime.now(datetime.UTC) < least:
        return f"{folder / CERTIFICATE} is valid until {ends:%Y-%m-%d} only"
    return ""


def _is_foreign(folder: Path) -> bool:
    """Return whether another authority signed the certificate: it is the user's own."""
    try:
        stack = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return stack.issuer != _AUTHORITY


def _make(folder: Path) -> None:
    signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = (
        _certificate(_AUTHORITY, signer.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in ADDRESSES]
    names = x509.SubjectAlternativeName([*addresses, *(x509.DNSName(name) for name in NAMES)])
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    stack = (
        _certificate(_STACK, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(issuer, critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    )
    files = {
        CA: authority.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM),
        KEY: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        CERTIFICATE: stack.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM),
    }
    for name, pem in files.items():
        replace_file(folder / name, pem, durable=True)


def _certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_AUTHORITY)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # the clock may be put back
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, key_cert_sign: bool = False, digital_signature: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
