"""A small HTTP client for JSON over urllib, for commands that wait for what they ask."""

from __future__ import annotations

import http.client
import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
SHOWN_CHARS = 300
"""How much of an answer's body an error shows."""


class AnswerError(OSError):
    """Nobody answers, or the answer is of no use. Its text doesn't repeat the address, which may
    hold a secret.

    Args:
        text: what went wrong, to be read after the name of whom was asked.
        url: whom.
        status: of HTTP; 0 if nobody answered.
        body: the beginning of the answer.
    """

    def __init__(self, text: str, url: str, status: int = 0, body: str = "") -> None:
        super().__init__(text)
        self.url, self.status, self.body = url, status, body


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, an error's too.

    Args:
        url: who was asked.
        status: of HTTP.
        reason: its words, e.g. ``Not Found``.
        body: all of it.
    """

    url: str
    status: int
    reason: str
    body: bytes

    @property
    def text(self) -> str:
        """The beginning of the body, for people."""
        return self.body.decode(errors="replace").strip()[:SHOWN_CHARS]

    def json(self) -> Any:
        """The body's JSON; None where it is empty.

        Raises:
            AnswerError: the status is an error's, or the body is not JSON.
        """
        if self.status >= 400:
            said = f": {self.text}" if self.text else ""
            raise AnswerError(f"answered {self.status}{said}", self.url, self.status, self.text)
        try:
            return json.loads(self.body) if self.body.strip() else None
        except ValueError as error:
            text = "answered something that is not JSON"
            raise AnswerError(text, self.url, self.status, self.text) from error


def get_json(
    url: str, timeout_s: float = TIMEOUT_S, headers: Mapping[str, str] | None = None
) -> Any:
    """The JSON that ``url`` answers.

    Raises:
        AnswerError: nobody answers, or with an error, or not with JSON.
    """
    return send(url, headers=headers, timeout_s=timeout_s).json()


def post_json(
    url: str, body: Any, timeout_s: float = TIMEOUT_S, headers: Mapping[str, str] | None = None
) -> Any:
    """Send JSON; returns the JSON that is answered.

    Raises:
        AnswerError: nobody answers, or with an error, or not with JSON.
    """
    return send(url, body, headers=headers, timeout_s=timeout_s).json()


def send(
    url: str,
    body: Any = None,
    *,
    method: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """Ask, and give whatever is answered.

    Args:
        url: whom. What runs on this machine is never asked by way of an HTTP proxy.
        body: JSON to send; None for nothing.
        method: of HTTP; if not given GET, or POST with a body.
        headers: on top of the content type.
        timeout_s: for each step, seconds.

    Raises:
        AnswerError: nobody answers.
    """
    data = None if body is None else json.dumps(body).encode()
    typed = {} if body is None else {"content-type": "application/json"}
    try:
        request = urllib.request.Request(url, data, {**typed, **(headers or {})}, method=method)
        with _opener(url).open(request, timeout=timeout_s) as response:
            return Answer(url, response.status, response.reason, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(url, error.code, error.reason, _rest(error))
    except (OSError, http.client.HTTPException, ValueError) as error:
        # urllib wraps the operating system's own error.
        cause = getattr(error, "reason", error)
        why = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise AnswerError(f"does not answer: {why}", url) from error


def _opener(url: str) -> urllib.request.OpenerDirector:
    if _is_loopback(urlsplit(url).hostname or ""):
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _rest(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read()
    except (OSError, http.client.HTTPException):
        return b""
