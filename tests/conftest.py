"""Fixtures shared by all tests stand in tests/fixtures, one file a real part."""

from __future__ import annotations

import signal
from pathlib import Path

pytest_plugins = [
    f"tests.fixtures.{path.stem}"
    for path in sorted((Path(__file__).parent / "fixtures").glob("*.py"))
    if path.stem != "__init__"
]

# A shell's background job ignores Ctrl-C, and with it whatever the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
