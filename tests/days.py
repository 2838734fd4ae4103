"""UTC days: what is spent or written today is asked for as of today."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.fixtures.stack import until


def within_a_day(seconds: float) -> None:
    """Wait for the next UTC day where this one has no more than ``seconds`` left."""
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    until(lambda: end.date() <= datetime.now(UTC).date(), seconds + 1, "the next UTC day")
