"""Access by a token: as a bearer token or, from Grafana, as a password."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from starlette.requests import Request

from telemetry.services.guesses import ADDRESS_BURST
from telemetry.services.http import HTTPError
from telemetry.services.login import LONG_CHARS, Access, Login

VARIABLE = "TELEMETRY_WEBHOOK_TOKEN"


def _request(authorization: str) -> Request:
    headers = [(b"authorization", authorization.encode())]
    return Request({"type": "http", "headers": headers, "client": ("127.0.0.1", 1)})


def status(access: Access, authorization: str) -> int:
    """Return the status of a refusal, 0 if the request is allowed."""
    try:
        access.check(_request(authorization))
    except HTTPError as error:
        return error.status
    return 0


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
def test_password_is_accepted_like_a_bearer_token(given: str, allowed: bool) -> None:
    encoded = base64.b64encode(given.encode()).decode()
    assert (status(Access("hook:secret", VARIABLE), f"Basic {encoded}") == 0) is allowed


@pytest.mark.parametrize("given", ["Basic", "Basic ***", "Basic /w==", "Digest hook:secret", ""])
def test_malformed_authorization_is_refused(given: str) -> None:
    assert status(Access("hook:secret", VARIABLE), given) == 401


@pytest.mark.parametrize("given", ["Bearer ", "Bearer", "Basic Og=="])
def test_without_a_configured_token_every_request_is_refused(given: str) -> None:
    assert status(Access("", VARIABLE), given) == 401


def test_refusal_names_the_variable_of_the_token() -> None:
    with pytest.raises(HTTPError) as refused:
        Access("hook:secret", VARIABLE).check(_request("Bearer wrong"))
    assert refused.value.status == 401
    assert refused.value.remedy == "send Authorization: Bearer TELEMETRY_WEBHOOK_TOKEN"


def test_wrong_tokens_do_not_keep_out_a_client_whose_token_nobody_can_guess() -> None:
    long = "x" * LONG_CHARS
    access = Access(long, VARIABLE)
    for _ in range(ADDRESS_BURST):
        assert status(access, "Bearer wrong") == 401
    assert status(access, "Bearer wrong") == 429
    assert status(access, f"Bearer {long}") == 0
    assert status(access, "") == 401, "a client without a token does not guess"


def test_unknown_session_is_not_a_guess(tmp_path: Path) -> None:
    login = Login("short", VARIABLE, page="/", title="service", sessions=tmp_path / "logins.json")
    for _ in range(ADDRESS_BURST + 1):
        assert status(login, "Bearer session-expired") == 401
    assert status(login, "Bearer short") == 0
