"""Load the fixtures that all tests share: tests/fixtures, one file for each real part.

Every test run loads all of these files, so each imports what is heavy (Docker's SDK, Playwright,
a server) in the fixture or function that needs it.
"""

from __future__ import annotations

import signal
from pathlib import Path

pytest_plugins = [
    f"tests.fixtures.{path.stem}"
    for path in sorted((Path(__file__).parent / "fixtures").glob("*.py"))
    if path.stem != "__init__"
]

# Restore the default handling of these signals for the tests' child processes: a background job
# ignores SIGINT and SIGQUIT, one under nohup SIGHUP, and children inherit that.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)
