"""Estimate a request's input tokens from its size, before it is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from genai_prices.data_snapshot import get_snapshot

# On the safe side: text has 3 to 4.5 bytes of JSON a token. Chosen by judgement, not measured.
BYTES_PER_TOKEN = 3
# Pictures are sent as base64 or by address, neither of which tells their tokens. Most cost up to
# 1,600 (https://docs.claude.com/en/docs/build-with-claude/vision).
IMAGE_TOKENS = 1600
# A token is 100 ms at OpenAI (https://platform.openai.com/docs/guides/realtime-costs), which as
# lowest-bitrate MP3, 8 kbit/s, are 133 characters; rounded to the safe side.
CHARS_PER_AUDIO_TOKEN = 100
# Context window of most models, used if the price table doesn't say; chosen by judgement, not
# measured.
WINDOW_TOKENS = 200_000

_LONG = 2000
_BASE64 = re.compile(r"(?:data:[^,]{0,100},)?[A-Za-z0-9+/=_\r\n-]+")
_IMAGES = ("image", "image_url", "input_image", "computer_screenshot")
_DOCUMENTS = ("document", "file", "input_file", "video_url")


@dataclass(frozen=True, slots=True)
class Input:
    """A request's input tokens.

    Args:
        shown: of the input that it contains.
        hidden: the most that it may have beyond that, for input that it only refers to.
    """

    shown: int
    hidden: int


def input_estimate(raw: bytes, request: dict[str, Any], provider: str, model: str) -> Input:
    """Estimate a request's input tokens, on the safe side.

    Args:
        raw: the request's body.
        request: the same, decoded.
        provider: genai-prices' provider id, or ``""`` to go by the model alone.
        model: its model's real name.
    """
    found = _Found(request)
    # A document counts as text does, by its size. A page, its text and its picture, costs up to
    # 4,600 tokens (https://docs.claude.com/en/docs/build-with-claude/pdf-support), counted here as
    # 10 kB: fonts and pictures make most pages larger, only bare text smaller. The model never
    # reads more than its window holds.
    documents = found.document_chars // BYTES_PER_TOKEN
    window = context_window(provider, model) if documents or found.refers else 0
    shown = (
        (len(raw) - found.chars - found.document_chars) // BYTES_PER_TOKEN
        + found.tokens
        + min(documents, window)
        + 1
    )
    return Input(shown, max(0, window - shown) if found.refers else 0)


def context_window(provider: str, model: str) -> int:
    """Return the most input tokens a model takes, `WINDOW_TOKENS` if that isn't known.

    Args:
        provider: genai-prices' provider id, or ``""`` to go by the model alone.
        model: its name.
    """
    try:
        _, info = get_snapshot().find_provider_model(model, None, provider or None, None)
    except (LookupError, ValueError):
        return WINDOW_TOKENS
    return info.context_window or WINDOW_TOKENS


class _Found:
    """Input of a request other than text.

    Attributes:
        tokens: of its pictures and recordings.
        chars: base64 of these.
        document_chars: base64 of its documents.
        refers: whether it refers to further input.
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self.tokens = self.chars = self.document_chars = 0
        prompt, items = request.get("prompt"), request.get("input")
        self.refers = bool(
            request.get("previous_response_id")
            or request.get("conversation")
            or (isinstance(prompt, dict) and prompt.get("id"))
            or (isinstance(items, list) and any(map(_is_reference, items)))
        )
        # No recursion: a request may be nested as deep as the decoder goes.
        left: list[Any] = [request.get("messages"), items]
        while left:
            value = left.pop()
            if isinstance(value, list):
                left.extend(value)
            elif isinstance(value, dict) and self._goes_on(value):
                left.extend(value.values())

    def _goes_on(self, block: dict[str, Any]) -> bool:
        """Count a block; returns whether it may contain others."""
        kind = block.get("type")
        if kind == "text":  # nearly all are
            return False
        if kind in _IMAGES:
            self.tokens += IMAGE_TOKENS
            self.chars += len(_base64(block))
            return False
        if kind == "input_audio":
            chars = len(_base64(block))
            self.tokens += chars // CHARS_PER_AUDIO_TOKEN
            self.chars += chars
            return False
        if kind in _DOCUMENTS:
            chars = len(_base64(block))
            self.document_chars += chars
            self.refers = self.refers or _lies_elsewhere(block)
            return not chars  # what it holds must not be found again
        # What a model wrote for a tool is text to it, whatever it looks like.
        return not (isinstance(kind, str) and kind.endswith("tool_use"))


def _parts(block: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a block and the parts that may hold its content."""
    names = ("source", "image_url", "file", "input_audio", "video_url")
    return [block, *(part for name in names if isinstance(part := block.get(name), dict))]


def _base64(block: dict[str, Any]) -> str:
    """Return the base64 in a block, ``""`` if it is short or missing."""
    for part in _parts(block):
        for name in ("data", "url", "image_url", "file_data"):
            value = part.get(name)
            if isinstance(value, str) and len(value) > _LONG and _BASE64.fullmatch(value[:_LONG]):
                return value
    return ""


def _is_reference(item: object) -> bool:
    """Whether an item of a response's input is only named; its ``type`` may be left out."""
    return isinstance(item, dict) and (
        item.get("type") == "item_reference" or item.keys() == {"id"}
    )


def _lies_elsewhere(block: dict[str, Any]) -> bool:
    """Whether a document is only referred to."""
    return any(
        part.get("file_id") or part.get("file_url") or part.get("type") == "url"
        for part in _parts(block)
    )
