"""A small blocking HTTP client for JSON, over urllib, for commands."""

from __future__ import annotations

import http.client
import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from telemetry.system import tls as certificates

TIMEOUT_S = 5.0
SHOWN_CHARS = 300
"""Characters of an answer's body that an error shows."""


class AnswerError(OSError):
    """A request without a usable answer.

    Its text doesn't repeat the address, which may hold a secret.

    Args:
        text: what went wrong; completes a sentence that starts with the server's name.
        url: the requested address.
        status: HTTP status; 0 if there was no answer.
        body: the beginning of the answer.
    """

    def __init__(self, text: str, url: str, status: int = 0, body: str = "") -> None:
        super().__init__(text)
        self.url, self.status, self.body = url, status, body


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; its status may be an error.

    Args:
        url: the requested address.
        status: HTTP status.
        reason: HTTP reason phrase, e.g. ``Not Found``.
        body: the whole body.
    """

    url: str
    status: int
    reason: str
    body: bytes

    @property
    def text(self) -> str:
        """The beginning of the body, for messages."""
        return self.body.decode(errors="replace").strip()[:SHOWN_CHARS]

    def json(self) -> Any:
        """Parse the body as JSON; None if it is empty.

        Raises:
            AnswerError: the status is an error, or the body is not JSON.
        """
        if self.status >= 400:
            detail = f": {self.text}" if self.text else ""
            raise AnswerError(f"answered {self.status}{detail}", self.url, self.status, self.text)
        try:
            return json.loads(self.body) if self.body.strip() else None
        except (ValueError, RecursionError) as error:
            text = "answered something that is not JSON"
            raise AnswerError(text, self.url, self.status, self.text) from error


def get_json(
    url: str,
    timeout_s: float = TIMEOUT_S,
    headers: Mapping[str, str] | None = None,
    tls: Path | None = None,
) -> Any:
    """Get the JSON at ``url``; the arguments are those of `send`.

    Raises:
        AnswerError: there is no answer, or it is an error or not JSON.
    """
    return send(url, headers=headers, timeout_s=timeout_s, tls=tls).json()


def post_json(
    url: str,
    body: Any,
    timeout_s: float = TIMEOUT_S,
    headers: Mapping[str, str] | None = None,
    tls: Path | None = None,
) -> Any:
    """Send JSON, and return the JSON of the answer; the arguments are those of `send`.

    Raises:
        AnswerError: there is no answer, or it is an error or not JSON.
    """
    return send(url, body, headers=headers, timeout_s=timeout_s, tls=tls).json()


def send(
    url: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    tls: Path | None = None,
) -> Answer:
    """Send a request, and return the answer even if its status is an error.

    Args:
        url: the address. Requests to loopback never go through an HTTP proxy.
        body: JSON to send; None for no body.
        method: HTTP method (default: POST with a body, else GET).
        headers: headers in addition to the content type.
        timeout_s: timeout of each socket operation, s.
        tls: folder of the stack's certificates, for requests to engines.

    Raises:
        AnswerError: there is no answer.
    """
    data = None if body is None else json.dumps(body).encode()
    typed = {} if body is None else {"content-type": "application/json"}
    try:
        request = urllib.request.Request(url, data, {**typed, **(headers or {})}, method=method)
        with _opener(url, tls).open(request, timeout=timeout_s) as response:
            return Answer(url, response.status, response.reason, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(url, error.code, error.reason, _read_body(error))
    except (OSError, http.client.HTTPException, ValueError) as error:
        # urllib wraps the operating system's error.
        cause = getattr(error, "reason", error)
        why = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise AnswerError(f"does not answer: {why}", url) from error


def _opener(url: str, tls: Path | None) -> urllib.request.OpenerDirector:
    parts = urlsplit(url)
    handlers: list[urllib.request.BaseHandler] = []
    if is_loopback(parts.hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    if tls and parts.scheme == "https":
        context = certificates.client_context(tls)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_body(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read()
    except (OSError, http.client.HTTPException):
        return b""
