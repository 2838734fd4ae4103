"""Each container's own token for the relay: ``<handle>~<signature>``.

Made from the platform's OTLP token, so that nothing has to be kept; good while the handle has a
container of the platform's.
"""

from __future__ import annotations

import hashlib
import hmac


def issue(secret: str, handle: str) -> str:
    """The token of a handle."""
    return f"{handle}~{_signature(secret, handle)}"


def handle_of(secret: str, token: str) -> str:
    """Whose token this is, "" where it is nobody's."""
    handle, _, signature = token.partition("~")
    # Bytes of a header that are no UTF-8 come as lone surrogates, which have no encoding.
    given = signature.encode(errors="replace")
    good = hmac.compare_digest(given, _signature(secret, handle).encode())
    return handle if good else ""


def _signature(secret: str, handle: str) -> str:
    signed = f"otlp:{handle}".encode(errors="replace")
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
