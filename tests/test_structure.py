"""The package stays easy to change: small files, short signatures, settings in few places."""

from __future__ import annotations

import pytest

from tests.structure import LIMITS


@pytest.mark.parametrize("what", LIMITS)
def test_structure_keeps_its_limits(what: str) -> None:
    find, limit = LIMITS[what]
    found = find()
    assert len(found) <= limit, found
