"""Issue and check each container's token for the relay: ``<handle>~<signature>``.

Tokens are derived from the platform's OTLP token, so none is stored. A token is valid while the
handle has a container of the platform.
"""

from __future__ import annotations

import hashlib
import hmac


def issue(secret: str, handle: str) -> str:
    """Return the token of a handle."""
    return f"{handle}~{_signature(secret, handle)}"


def handle_of(secret: str, token: str) -> str:
    """Return the handle of a token, "" if the token is invalid."""
    handle, _, signature = token.partition("~")
    # Header bytes that are not UTF-8 arrive as lone surrogates, which can't be encoded.
    given = signature.encode(errors="replace")
    good = hmac.compare_digest(given, _signature(secret, handle).encode())
    return handle if good else ""


def _signature(secret: str, handle: str) -> str:
    signed = f"otlp:{handle}".encode(errors="replace")
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
