"""Serve a service with uvicorn, with limits for its clients, until a signal stops it."""

from __future__ import annotations

import resource
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn

MAX_FILES = 65_536  # more than any service uses


def config(app: Any, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration of a service.

    Args:
        app: the ASGI app, or where to import it.
        options: further ones of `uvicorn.Config`.
    """
    import uvicorn

    return uvicorn.Config(
        app,
        http="telemetry.services.limits:HTTPProtocol",
        ws="telemetry.services.limits:WebSocketProtocol",
        access_log=False,
        server_header=False,
        # The client's address is the peer's: forwarded headers are not trusted.
        proxy_headers=False,
        **options,
    )


def raise_file_limit() -> None:
    """Raise the limit of open files of this process and its children as far as it may.

    Each connection is one. The usual 1,024 is for programs that use select(); none here does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has a lower limit that it doesn't tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stop_on_sigterm() -> None:
    """Exit with 0 on SIGTERM, since a requested stop is not a failure.

    uvicorn handles the signal only while it serves, and raises it again after its shutdown."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
