"""Token checks, and the log-in pages of the services that have pages.

A log-in is a session, whose token the page keeps in its own storage (`login_pages/session.js`) and
sends as a bearer token. There is no cookie: browsers would send it to every port of this host.
"""

from __future__ import annotations

import base64
import hmac
import logging
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from telemetry import catalog, metrics
from telemetry.services.guesses import Guesses
from telemetry.services.http import (
    HTTPError,
    asset_route,
    bearer_token,
    guarded,
    page_headers,
    parse_json,
    read_body,
)
from telemetry.services.sessions import PREFIX, Session, Sessions

LOGIN_BYTES = 4096
# Nobody can guess a token of this length, such as a generated one. It is accepted even from an
# address that must wait, so that wrong tokens can't keep a service's own clients out.
LONG_CHARS = 32
# A browser's WebSocket has no Authorization header: the session's token is its second subprotocol.
SUBPROTOCOL = "telemetry"

PAGES = Path(__file__).parent / "login_pages"
_log = logging.getLogger(__name__)


class Access:
    """Checks the token of requests.

    Args:
        token: the token; if it is empty, no request has access by it.
        variable: name of the token's environment variable, for error messages.
        also: further tokens that give the same access.
    """

    def __init__(self, token: str, variable: str, also: tuple[str, ...] = ()) -> None:
        self._tokens = tuple(one.encode() for one in (token, *also) if one)
        self._variable = variable
        self._remedy = f"send Authorization: Bearer {variable}"
        self._guesses = Guesses()
        self._are_long = all(len(one) >= LONG_CHARS for one in self._tokens)
        self._refused = metrics.counter(catalog.SERVICES_REQUESTS_REFUSED)
        for reason in ("token", "guesses"):
            self._refused.touch({"reason": reason})

    def check(self, request: HTTPConnection) -> None:
        """Refuse requests without the token, and for a while all of a client that guesses.

        Raises:
            HTTPError: 401 or 429.
        """
        self.check_given(request, given_token(request))

    def check_given(self, request: HTTPConnection, given: str) -> None:
        """Check a token that was found in the request, "" if there is none.

        Raises:
            HTTPError: 401 or 429.
        """
        if not given or not self._tokens:
            raise self.unauthorized()
        address = address_of(request)
        wait_s = self._guesses.wait_s(address)
        if (self._are_long or not wait_s) and self._is_token(given):
            return
        if wait_s:
            self._refused.add(1, {"reason": "guesses"})
            raise HTTPError(
                429,
                "too many wrong tokens came from this address",
                f"try again in {wait_s} s",
                {"retry-after": str(wait_s)},
            )
        if not given.startswith(PREFIX):
            self._guesses.wrong(address)
            self._refused.add(1, {"reason": "token"})
            _log.warning("a client at %s sent a wrong %s", address, self._variable)
        raise self.unauthorized()

    def unauthorized(self) -> HTTPError:
        """Return the error of a request without the token."""
        return HTTPError(401, "the token is missing or wrong", self._remedy)

    def _is_token(self, given: str) -> bool:
        """Compare with the tokens, in constant time."""
        raw = given.encode(errors="replace")
        return any(hmac.compare_digest(raw, one) for one in self._tokens)


class Login(Access):
    """Access by token, or by the session of a log-in.

    Args:
        token: see `Access`.
        variable: see `Access`.
        page: path of the service's page.
        title: the service, as the page shows it.
        sessions: file of the sessions, in the state folder.
        also: see `Access`; these tokens can't log in.
    """

    def __init__(
        self,
        token: str,
        variable: str,
        *,
        page: str,
        title: str,
        sessions: Path,
        also: tuple[str, ...] = (),
    ) -> None:
        super().__init__(token, variable, also)
        self._form = Access(token, variable)
        self._page = page
        self._base = page.rstrip("/")
        self._remedy = f"log in at {self._base}/login, or {self._remedy}"
        self._title = title
        self.sessions = Sessions(sessions, token)

    def routes(self) -> list[Route]:
        """Return the routes of the log-in form, of the page of log-ins, and of their API."""
        base = self._base
        return [
            Route(f"{base}/login", self._static("login.html"), methods=["GET"]),
            Route(f"{base}/login", self._log_in, methods=["POST"]),
            asset_route(f"{base}/login", PAGES),
            Route(f"{base}/logins", self._static("logins.html"), methods=["GET"]),
            Route(f"{base}/logout", self._log_out, methods=["POST"]),
            Route(f"{base}/api/logins", guarded(self._list, self.check), methods=["GET"]),
            Route(f"{base}/api/logins", guarded(self._end_others, self.check), methods=["DELETE"]),
            Route(f"{base}/api/logins/{{id}}", guarded(self._end, self.check), methods=["DELETE"]),
        ]

    def check_given(self, request: HTTPConnection, given: str) -> None:
        """Check a token that was found in the request: a session's, or the service's own.

        Raises:
            HTTPError: 401 or 429.
        """
        if self.sessions.find(given) is None:
            super().check_given(request, given)

    def session_of(self, request: HTTPConnection) -> Session | None:
        """Return the session that a request belongs to; None if it has another token."""
        return self.sessions.find(given_token(request))

    def _static(self, name: str) -> Any:
        page = (PAGES / name).read_text()
        for key, value in (
            ("title", self._title),
            ("base", self._base),
            ("page", self._page),
            ("variable", self._variable),
        ):
            page = page.replace(f"{{{key}}}", escape(value))

        async def send(request: Request) -> Response:
            return HTMLResponse(page, headers=page_headers())

        return send

    async def _log_in(self, request: Request) -> Response:
        body = parse_json(await read_body(request.stream(), LOGIN_BYTES))
        given = body.get("token") if isinstance(body, dict) else None
        if not isinstance(given, str):
            raise HTTPError(400, 'the body must be like {"token": "…"}')
        self._form.check_given(request, given.strip())
        token = self.sessions.open(address_of(request))
        return JSONResponse({"session": token}, headers={"cache-control": "no-store"})

    async def _log_out(self, request: Request) -> Response:
        session = self.session_of(request)
        if session is not None:
            self.sessions.end(lambda one: one.id == session.id)
        return JSONResponse({"ended": int(session is not None)})

    async def _list(self, request: Request) -> Response:
        own = self.session_of(request)
        return JSONResponse(
            {
                "logins": [
                    {
                        "id": one.id,
                        "address": one.address,
                        "created": _iso(one.created_s),
                        "used": _iso(one.used_s),
                        "current": own is not None and own.id == one.id,
                    }
                    for one in self.sessions.all()
                ]
            },
            headers={"cache-control": "no-store"},
        )

    async def _end_others(self, request: Request) -> Response:
        own = self.session_of(request)
        ended = self.sessions.end(lambda one: own is None or one.id != own.id)
        return JSONResponse({"ended": ended})

    async def _end(self, request: Request) -> Response:
        wanted = request.path_params["id"]
        if not self.sessions.end(lambda one: one.id == wanted):
            raise HTTPError(404, "there is no such log-in", f"GET {self._base}/api/logins has all")
        return JSONResponse({"ended": 1})


def given_token(request: HTTPConnection) -> str:
    """Return the token that a request carries, "" if it has none.

    It is a bearer token, a password, or the second subprotocol of a WebSocket.
    """
    authorization = request.headers.get("authorization", "")
    given = bearer_token(authorization) or _password(authorization)
    if not given and request.scope["type"] == "websocket":
        protocols = request.scope.get("subprotocols") or []
        given = protocols[1] if protocols[:1] == [SUBPROTOCOL] and len(protocols) > 1 else ""
    return given


def address_of(request: HTTPConnection) -> str:
    """Return the client's IP address, "" if it has none."""
    return request.client.host if request.client else ""


def _password(authorization: str) -> str:
    """Return the password of an ``Authorization: Basic`` header, "" if there is none."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _iso(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")
