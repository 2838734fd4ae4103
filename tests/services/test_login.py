"""Access by a token: as a bearer token or, from Grafana, as a password."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest
from starlette.requests import Request

from telemetry.services.http import HTTPError
from telemetry.services.login import Access, Login

VARIABLE = "TELEMETRY_WEBHOOK_TOKEN"


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
def test_password_is_accepted_like_a_bearer_token(given: str, allowed: bool) -> None:
    encoded = base64.b64encode(given.encode()).decode()
    assert Access("hook:secret", VARIABLE).allowed(_request(f"Basic {encoded}")) is allowed


@pytest.mark.parametrize("given", ["Basic", "Basic ***", "Basic /w==", "Digest hook:secret", ""])
def test_malformed_authorization_is_refused(given: str) -> None:
    assert not Access("hook:secret", VARIABLE).allowed(_request(given))


@pytest.mark.parametrize("given", ["Bearer ", "Bearer", "Basic Og=="])
def test_without_a_configured_token_every_request_is_refused(given: str) -> None:
    assert not Access("", VARIABLE).allowed(_request(given))


def test_refusal_names_the_variable_of_the_token() -> None:
    with pytest.raises(HTTPError) as refused:
        Access("hook:secret", VARIABLE).check(_request("Bearer wrong"))
    assert refused.value.status == 401
    assert refused.value.remedy == "send Authorization: Bearer TELEMETRY_WEBHOOK_TOKEN"


@pytest.mark.parametrize("token", ["admin-secret", ""])
def test_cookie_signed_with_the_token_is_accepted_only_if_there_is_a_token(token: str) -> None:
    expiry = str(int(time.time()) + 60)
    signature = hmac.new(token.encode(), expiry.encode(), hashlib.sha256).hexdigest()
    cookie = f"session={expiry}.{signature}".encode()
    request = Request({"type": "http", "headers": [(b"cookie", cookie)]})
    login = Login(token, VARIABLE, "/admin", "platform", "session")
    assert login.allowed(request) is bool(token)
