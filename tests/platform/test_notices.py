"""Warnings about containers: one in ten minutes for each subject."""

from __future__ import annotations

import logging

import pytest

from telemetry.services.platform.relay import notices
from telemetry.services.platform.relay.notices import Notices
from tests.platform.test_admission import Clock


def test_warning_is_repeated_after_ten_minutes_with_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    told = Notices(logging.getLogger("test"), clock)
    for _ in range(3):
        told.warn("ann", "ann is too fast")
    told.warn("bob", "bob is too fast")
    clock.now += 600
    told.warn("ann", "ann is too fast")
    assert [record.getMessage() for record in caplog.records] == [
        "ann is too fast",
        "bob is too fast",
        "ann is too fast (and 2 times before)",
    ]


def test_subjects_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "MAX_SUBJECTS", 10)
    told = Notices(logging.getLogger("test"))
    for number in range(100):
        told.warn(number, "new")
    assert len(told._subjects) <= 10
