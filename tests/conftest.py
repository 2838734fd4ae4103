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

# A background job ignores these, one under nohup the last, and so does whatever it starts: what
# the tests start has to hear them.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)
