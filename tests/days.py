"""UTC days, for tests that would fail if midnight passed between an action and its check."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.fixtures.stack import until


def within_a_day(seconds: float) -> None:
    """Wait for the next UTC day if this one ends within ``seconds``."""
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    until(lambda: end.date() <= datetime.now(UTC).date(), seconds + 1, "the next UTC day")
