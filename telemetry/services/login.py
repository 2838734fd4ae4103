"""Token checks, and the log-in page of the services that have pages."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from html import escape
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from telemetry.services.http import HTTPError, bearer_token, page_headers, read_body

VALID_S = 30 * 86400
FORM_BYTES = 4096
WRONG_TOKEN_DELAY_S = 0.5  # guessing should be slow

_STYLE = """
:root { color-scheme: light dark; --dim: #62676d; --bad: #b3201f; --accent: #1f5fc4 }
@media (prefers-color-scheme: dark) {
  :root { --dim: #9ba1a8; --bad: #ff9a91; --accent: #84b0f7 }
}
body { font: 1rem/1.55 system-ui, sans-serif; max-width: 25rem; margin: 18vh auto 0;
  padding: 0 1.25rem }
h1 { font-size: 1.4rem }
form { display: flex; gap: .5rem }
input, button { font: inherit; padding: .45rem .8rem; border: 1px solid var(--dim);
  border-radius: .5rem }
input { flex: 1; min-width: 0 }
button { background: var(--accent); border-color: var(--accent); color: Canvas; font-weight: 600 }
[role=alert] { color: var(--bad) }
.note { color: var(--dim); font-size: .875rem; overflow-wrap: anywhere }
"""
_HEADERS = page_headers(
    f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · {title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{wrong}<form method="post" action="{action}">
<input name="user" autocomplete="username" value="{title}" hidden>
<input name="token" type="password" placeholder="Token" aria-label="Token"
 autocomplete="current-password" autofocus required>
<button type="submit">Log in</button>
</form>
<p class="note">The token is <code>{variable}</code> in <code>secrets.env</code> of the state
folder.</p>
</body>
</html>
"""
_WRONG = '<p role="alert">The token is wrong.</p>\n'


class Access:
    """Checks the token and the origin of requests.

    Args:
        token: the token; if it is empty, no request has access.
        variable: name of the token's environment variable, for error messages.
        origins: further origins that may call, beside the service's own.
    """

    def __init__(self, token: str, variable: str, origins: tuple[str, ...] = ()) -> None:
        self._token = token
        self._variable = variable
        self._origins = origins
        self._remedy = f"send Authorization: Bearer {variable}"

    def is_token(self, given: str) -> bool:
        """Compare with the token, in constant time. If no token is configured, always False."""
        same = hmac.compare_digest(given.encode(errors="replace"), self._token.encode())
        return same and bool(self._token)

    def allowed(self, request: HTTPConnection) -> bool:
        """Tell whether the request carries the token, as a bearer token or as a password."""
        authorization = request.headers.get("authorization", "")
        return self.is_token(bearer_token(authorization) or _password(authorization))

    def same_origin(self, request: HTTPConnection) -> bool:
        """Tell whether the request comes from our own pages, or not from a page at all."""
        origin = request.headers.get("origin")
        if origin is None or origin in self._origins:
            return True
        try:
            return urlsplit(origin).netloc == request.headers.get("host")
        except ValueError:
            return False

    def check_origin(self, request: HTTPConnection) -> None:
        """Refuse requests from pages of other sites.

        Raises:
            HTTPError: 403.
        """
        if not self.same_origin(request):
            raise HTTPError(403, "pages of other sites may not call this")

    def check(self, request: HTTPConnection) -> None:
        """Refuse requests from pages of other sites, and those without the token.

        Raises:
            HTTPError: 403 or 401.
        """
        self.check_origin(request)
        self.check_token(request)

    def check_token(self, request: HTTPConnection) -> None:
        """Refuse requests without the token.

        Raises:
            HTTPError: 401.
        """
        if not self.allowed(request):
            raise self.unauthorized()

    def unauthorized(self) -> HTTPError:
        """Return the error of a request without the token."""
        return HTTPError(401, "the token is missing or wrong", self._remedy)


class Login(Access):
    """Access by token, or by a cookie that the log-in page sets.

    Args:
        token: see `Access`.
        variable: see `Access`.
        page: path to show after log-in and log-out; without a log-in, it shows the log-in page.
        title: the service, as the page shows it.
        cookie: its name; each service needs its own, since browsers send a host's cookies to
            all ports of the host.
        same_site: ``lax`` lets links from other sites, such as those of a notice, lead to a page
            where one is logged in; ``strict`` does not.
        origins: see `Access`.
    """

    def __init__(
        self,
        token: str,
        variable: str,
        page: str,
        title: str,
        cookie: str,
        same_site: Literal["lax", "strict"] = "lax",
        origins: tuple[str, ...] = (),
    ) -> None:
        super().__init__(token, variable, origins)
        self._page = page
        self._title = title
        self._cookie = cookie
        self._same_site = same_site
        self._remedy = f"log in at {page}, or {self._remedy}"
        self._base = page.rstrip("/")

    def routes(self) -> list[Route]:
        """Return the routes of the form and of the log-out button."""
        return [
            Route(f"{self._base}/login", self._log_in, methods=["POST"]),
            Route(f"{self._base}/logout", self._log_out, methods=["POST"]),
        ]

    def allowed(self, request: HTTPConnection) -> bool:
        """Tell whether the request carries the token or a cookie of the log-in."""
        return super().allowed(request) or (bool(self._token) and self._has_cookie(request))

    def _has_cookie(self, request: HTTPConnection) -> bool:
        expiry, _, signature = request.cookies.get(self._cookie, "").partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(expiry).encode()):
            return False
        return int(expiry) > time.time()

    def log_in_page(self, request: Request) -> Response:
        """Return the page with the form."""
        page = _PAGE.format(
            title=escape(self._title),
            style=_STYLE,
            wrong=_WRONG if "wrong" in request.query_params else "",
            action=f"{self._base}/login",
            variable=self._variable,
        )
        return HTMLResponse(page, headers=_HEADERS)

    async def _log_in(self, request: Request) -> Response:
        self.check_origin(request)
        form = (await read_body(request.stream(), FORM_BYTES)).decode(errors="replace")
        given = parse_qs(form).get("token", [""])[0].strip()
        if not self.is_token(given):
            await asyncio.sleep(WRONG_TOKEN_DELAY_S)
            return RedirectResponse(f"{self._page}?wrong", 303)
        response = RedirectResponse(self._page, 303)
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

    async def _log_out(self, request: Request) -> Response:
        self.check_origin(request)
        response = RedirectResponse(self._page, 303)
        response.delete_cookie(self._cookie, httponly=True, samesite=self._same_site)
        return response

    def _sign(self, expiry: str) -> str:
        return hmac.new(self._token.encode(), expiry.encode(), hashlib.sha256).hexdigest()


def _password(authorization: str) -> str:
    """Return the password of an ``Authorization: Basic`` header, "" if there is none."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
