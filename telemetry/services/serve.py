"""How a service is told to stop."""

from __future__ import annotations

import signal
import sys


def stop_on_sigterm() -> None:
    """End with 0 at SIGTERM wherever uvicorn doesn't: it raises the signal again once all is done,
    and one may come before it is ready. A stop that was asked for is no failure."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
