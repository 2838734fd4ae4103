"""Who may come in: a log-in token by cookie or bearer, from our own pages only."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

VALID_S = 30 * 86400
FORM_LIMIT = 4096
WRONG_S = 0.5  # guessing should be slow


class Access:
    """Checks requests.

    Args:
        token: the log-in token.
        origins: further origins that may call, beside the service's own.
        cookie: name of the log-in's cookie, since browsers send a host's cookies to all its
            ports; "" where there is no log-in.
        same_site: ``lax`` where a link in a message is to lead to a page one is logged in to;
            ``strict`` where no other site may have a say in anything.
    """

    def __init__(
        self,
        token: str,
        origins: tuple[str, ...] = (),
        cookie: str = "",
        same_site: Literal["lax", "strict"] = "lax",
    ) -> None:
        self._token = token
        self._cookie = cookie
        self._same_site = same_site
        self._origins = origins

    def is_token(self, given: str) -> bool:
        """Whether this is the token, in constant time. Where there is none, nothing is."""
        same = hmac.compare_digest(given.encode(errors="replace"), self._token.encode())
        return same and bool(self._token)

    def allowed(self, request: HTTPConnection) -> bool:
        """Whether the request carries the token, as a bearer's or as a password, or a log-in's
        cookie."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(given.strip())
        if scheme.lower() == "basic":
            return self.is_token(_password(given))
        expiry, _, signature = request.cookies.get(self._cookie, "").partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(expiry).encode()):
            return False
        return int(expiry) > time.time()

    def same_origin(self, request: HTTPConnection) -> bool:
        """Whether the request comes from our own pages, or from no page at all."""
        origin = request.headers.get("origin")
        if origin is None or origin in self._origins:
            return True
        try:
            return urlsplit(origin).netloc == request.headers.get("host")
        except ValueError:
            return False

    async def log_in(self, request: Request, page: str) -> Response:
        """Answer a log-in form, field ``token``: to ``page`` with a cookie, or ``page?wrong``."""
        if not self.same_origin(request):
            return JSONResponse({"error": {"message": "this log-in came from another site"}}, 403)
        form = bytearray()
        async for chunk in request.stream():
            form += chunk
            if len(form) > FORM_LIMIT:
                return JSONResponse({"error": {"message": "that is no log-in form"}}, 413)
        given = parse_qs(form.decode(errors="replace")).get("token", [""])[0].strip()
        if not self.is_token(given):
            await asyncio.sleep(WRONG_S)
            return RedirectResponse(f"{page}?wrong", 303)
        response = RedirectResponse(page, 303)
        expiry = str(int(time.time()) + VALID_S)
        response.set_cookie(
            self._cookie,
            f"{expiry}.{self._sign(expiry)}",
            max_age=VALID_S,
            httponly=True,
            samesite=self._same_site,
            secure=request.url.scheme == "https",
        )
        return response

    def log_out(self, page: str) -> Response:
        """To ``page`` without the cookie."""
        response = RedirectResponse(page, 303)
        response.delete_cookie(self._cookie, httponly=True, samesite=self._same_site)
        return response

    def _sign(self, expiry: str) -> str:
        return hmac.new(self._token.encode(), expiry.encode(), hashlib.sha256).hexdigest()


def _password(credentials: str) -> str:
    """The password of a Basic authorization, "" where there is none."""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
