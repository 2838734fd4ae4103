"""Who may come in: a log-in token by cookie or bearer, from our own pages only."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

VALID_S = 30 * 86400


class Access:
    """Checks requests.

    Args:
        token: the log-in token.
        origins: further origins that may call, beside the service's own.
        cookie: name of the log-in's cookie, since browsers send a host's cookies to all its
            ports; "" where there is no log-in.
    """

    def __init__(self, token: str, origins: tuple[str, ...] = (), cookie: str = "") -> None:
        self._token = token
        self._cookie = cookie
        self._origins = origins

    def is_token(self, given: str) -> bool:
        """Whether this is the token, in constant time."""
        return hmac.compare_digest(given.encode(), self._token.encode())

    def allowed(self, request: HTTPConnection) -> bool:
        """Whether the request carries the token or a log-in's cookie."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(given.strip())
        expiry, _, signature = request.cookies.get(self._cookie, "").partition(".")
        if not expiry.isdigit() or int(expiry) < time.time():
            return False
        return hmac.compare_digest(signature, self._sign(expiry))

    def same_origin(self, request: HTTPConnection) -> bool:
        """Whether the request comes from our own pages, or from no page at all."""
        origin = request.headers.get("origin")
        if origin is None or origin in self._origins:
            return True
        return urlsplit(origin).netloc == request.headers.get("host")

    def log_in(self, response: Response, *, secure: bool) -> None:
        """Give the browser its cookie."""
        expiry = str(int(time.time()) + VALID_S)
        response.set_cookie(
            self._cookie,
            f"{expiry}.{self._sign(expiry)}",
            max_age=VALID_S,
            httponly=True,
            samesite="strict",
            secure=secure,
        )

    def _sign(self, expiry: str) -> str:
        return hmac.new(self._token.encode(), expiry.encode(), hashlib.sha256).hexdigest()
