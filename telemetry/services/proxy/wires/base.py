"""What the wires share: reading requests, and streams of server-sent events."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from telemetry.services.proxy.pricing.usage import MOST_TOKENS, Tokens

Endpoint = str
"""A generating endpoint as the ledger shows it, e.g. ``messages``."""
Context = tuple[tuple[str, str], ...]
"""What a price depends on beside model and tokens, e.g. ``(("service_tier", "flex"),)``."""

# Bytes of a stream kept to estimate what came, should it be cut; folded into counts beyond.
_KEEP = 256 * 1024
# Chosen by judgement, not measured: English has 4 to 5 characters a token, code and other scripts
# fewer.
CHARS_PER_TOKEN = 4


class AskError(ValueError):
    """A request that can't be metered; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for.

    Args:
        model: its model, as given.
        stream: whether it wants the answer streamed.
        max_output: most output tokens of a choice, None if it names no maximum.
        choices: how many answers it asks for.
        wants_usage: whether it asked for usage in the stream itself.
        caches: whether it may write to the provider's prompt cache.
        context: what the price depends on.
    """

    model: str
    stream: bool
    max_output: int | None
    choices: int
    wants_usage: bool
    caches: bool
    context: Context


class EventStream(ABC):
    """Meter one stream while it passes.

    Attributes:
        complete: the stream came to its regular end.
        failed: the provider reported an error within it.
        usage: usage as reported so far, None before any.
        context: what the price depends on, as reported.
    """

    def __init__(self) -> None:
        self.complete = False
        self.failed = False
        self.usage: dict[str, Any] | None = None
        self.context: Context = ()
        self._tail = b""
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._deltas = 0
        self._chars = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take in a chunk; returns the bytes to send to the client now."""
        data = self._tail + chunk if self._tail else chunk
        if data.endswith(b"\n\n"):
            whole, self._tail = data, b""
        else:
            cut = data.rfind(b"\n\n") + 2
            if cut == 1:
                # Not one line feed pair: this server may end its lines with CR LF.
                cut = data.rfind(b"\r\n\r\n") + 4
                cut = 0 if cut == 3 else cut
            whole, self._tail = data[:cut], data[cut:]
        if whole:
            self._scan(whole)
            self._kept.append(whole)
            self._kept_size += len(whole)
            if self._kept_size > _KEEP:
                self._fold()
        return self._forward(chunk, whole)

    def rest(self) -> bytes:
        """Return the bytes left for the client when the upstream has ended."""
        rest, self._tail = self._tail, b""
        if rest:
            self._scan(rest)
            self._kept.append(rest)
        return self._forward_rest(rest)

    def _forward(self, chunk: bytes, whole: bytes) -> bytes:
        return chunk

    def _forward_rest(self, rest: bytes) -> bytes:
        return b""

    @abstractmethod
    def _scan(self, whole: bytes) -> None:
        """Look for usage, errors and the end in complete events."""

    @abstractmethod
    def _delta(self, event: Mapping[str, Any]) -> int:
        """Return the characters of output in an event, -1 if it has no output."""

    @abstractmethod
    def tokens(self, input_estimate: int) -> tuple[Tokens, bool]:
        """Return the tokens the call used, and whether they are an estimate.

        Args:
            input_estimate: input tokens to assume if the provider reported none.
        """

    def output_estimate(self) -> int:
        """Estimate the output tokens from the text: no delta is less than a token."""
        self._fold()
        return max(self._deltas, math.ceil(self._chars / CHARS_PER_TOKEN))

    def _fold(self) -> None:
        for event in events(b"".join(self._kept)):
            chars = self._delta(event)
            if chars >= 0:
                self._deltas += 1
                self._chars += chars
        self._kept.clear()
        self._kept_size = 0


def events(whole: bytes, notable: re.Pattern[bytes] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of server-sent events; anything else is skipped.

    Args:
        whole: complete events.
        notable: a pattern that events of interest match; None for all events.
    """
    for line in whole.split(b"\n"):
        if line.startswith(b"data:") and (notable is None or notable.search(line)):
            try:
                value = json.loads(line[5:])
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


class Wire(ABC):
    """One provider's format.

    Attributes:
        name: of the provider, as settings, the ledger, the metrics and genai-prices name it.
        url: the provider's own address, up to and with the version.
        url_env: the variable that names another one.
        key_env: the variable with the provider's key.
        endpoints: the generating endpoints, by their paths below the address.
        count_path: where it counts a request's tokens, ``""`` if nowhere.
        marker: a header that every client of this format sends, and no other; ``b""`` for none.
        models_query: query by which one answer lists all models, ``""`` for none.
    """

    name: str
    url: str
    url_env: str
    key_env: str
    endpoints: ClassVar[Mapping[str, Endpoint]]
    count_path: str = ""
    marker: bytes = b""
    models_query: str = ""

    @abstractmethod
    def error(self, status: int, message: str, code: str = "") -> bytes:
        """Return an error body as the provider would write it."""

    @abstractmethod
    def error_event(self, message: str) -> bytes:
        """Return an error event for a stream that has begun."""

    @abstractmethod
    def authorization(self, key: str) -> dict[str, str]:
        """Return the headers that carry the provider's key."""

    @abstractmethod
    def read(self, endpoint: Endpoint, request: Mapping[str, Any]) -> Ask:
        """Read what a request asks for.

        Raises:
            AskError: it lacks what metering needs.
        """

    @abstractmethod
    def used(self, answer: Mapping[str, Any]) -> tuple[Tokens, Context] | None:
        """Read the usage of an answer in one piece, None if it reports none."""

    @abstractmethod
    def stream(self, endpoint: Endpoint, ask: Ask) -> EventStream:
        """Return a meter for a streamed answer."""

    def with_usage(
        self, endpoint: Endpoint, ask: Ask, request: dict[str, Any], raw: bytes
    ) -> bytes:
        """Return the request's body, changed if needed to have the stream report its usage."""
        return raw

    def models(self, models: list[dict[str, Any]]) -> Mapping[str, Any]:
        """Return the answer that lists ``models``, joined from several upstreams."""
        return {"object": "list", "data": models}


def obj(value: object) -> dict[str, Any]:
    """Return ``value`` if it is a JSON object, else an empty one: an answer may be garbled."""
    return value if isinstance(value, dict) else {}


def objs(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects in ``value``; anything else is left out."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def size(value: object) -> int:
    """Return the length of a text, 0 if ``value`` is not one."""
    return len(value) if isinstance(value, str) else 0


def reported(usage: object) -> dict[str, Any] | None:
    """Return usage, None if it is empty; some compatible servers send null or an empty object."""
    return usage if isinstance(usage, dict) and usage else None


def model_of(request: Mapping[str, Any]) -> str:
    """Return the model that a request names.

    Raises:
        AskError: it names no model, or one that no provider would have.
    """
    model = request.get("model")
    if not isinstance(model, str) or not model:
        raise AskError("`model` is missing: name the model to call")
    if len(model) > 200 or not model.isprintable():
        raise AskError("`model` is not a model's name: at most 200 printable characters")
    return model


def maximum(request: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of several limits that a request gives.

    Raises:
        AskError: it is not a whole number from 0.
    """
    for name in names:
        value = request.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise AskError(f"`{name}` must be a whole number from 0, not {value!r}")
        return min(value, MOST_TOKENS)
    return None
