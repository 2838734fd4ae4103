"""The webhook's token comes as a bearer's or, from Grafana, as a password."""

from __future__ import annotations

import base64

import pytest
from starlette.requests import Request

from telemetry.services.login import Access


def _request(authorization: str) -> Request:
    headers = [(b"authorization", authorization.encode())]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ("grafana:hook:secret", True),
        (":hook:secret", True),
        ("grafana:wrong", False),
        ("hook:secret", False),
        ("", False),
    ],
)
def test_a_password_is_as_good_as_a_bearers_token(given: str, allowed: bool) -> None:
    encoded = base64.b64encode(given.encode()).decode()
    assert Access("hook:secret").allowed(_request(f"Basic {encoded}")) is allowed


@pytest.mark.parametrize("given", ["Basic", "Basic ***", "Basic /w==", "Digest hook:secret", ""])
def test_what_is_no_password_is_refused(given: str) -> None:
    assert not Access("hook:secret").allowed(_request(given))


@pytest.mark.parametrize("given", ["Bearer ", "Bearer", "Basic Og=="])
def test_where_there_is_no_token_nothing_is_one(given: str) -> None:
    assert not Access("").allowed(_request(given))
