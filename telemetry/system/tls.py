"""The stack's certificates as a client uses them.

Prometheus, Loki and Alertmanager answer only clients with a certificate of the stack's own
authority. `telemetry/stack/certificates.py` makes the three files.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

CA = "ca.pem"
"""The authority's certificate, by which both sides know each other."""
CERTIFICATE = "stack.pem"
"""The one certificate of engines and clients."""
KEY = "stack-key.pem"
"""Its private key."""


def client_context(folder: Path) -> ssl.SSLContext:
    """Return the context for requests to the engines.

    It trusts the public authorities too, for engines that run elsewhere.

    Args:
        folder: the folder of the certificates; without files, only public authorities are trusted.

    Raises:
        OSError: the files can't be read, or don't belong together.
    """
    try:
        changed = (folder / CERTIFICATE).stat().st_mtime_ns
    except FileNotFoundError:
        changed = 0
    return _context(folder, changed)


@lru_cache(maxsize=4)
def _context(folder: Path, changed: int) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if changed:
        context.load_verify_locations(folder / CA)
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    return context
