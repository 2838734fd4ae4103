"""How many input tokens a request may have, guessed from its size before it is sent."""

from __future__ import annotations

from typing import Any

# A judgement, on the safe side: text runs at 3 to 4.5 bytes of JSON a token.
BYTES_PER_TOKEN = 3
# Pictures and files travel as base64, which says nothing of their tokens. Most pictures cost
# up to 1,600 (https://docs.claude.com/en/docs/build-with-claude/vision).
ATTACHMENT_TOKENS = 1600
_ATTACHMENT_CHARS = 2000


def input_estimate(raw: bytes, request: dict[str, Any]) -> int:
    """Input tokens that a request may have, on the safe side, from its size.

    Args:
        raw: the request's body.
        request: the same, decoded.
    """
    size = len(raw)
    # Only a large request can hold an attachment worth looking for.
    if size > _ATTACHMENT_CHARS and (b"base64" in raw or b"image" in raw or b"file" in raw):
        attachments, chars = _attachments(request)
        return (size - chars) // BYTES_PER_TOKEN + attachments * ATTACHMENT_TOKENS + 1
    return size // BYTES_PER_TOKEN + 1


def _attachments(request: dict[str, Any]) -> tuple[int, int]:
    """How many base64 texts a request holds, and their characters in all."""
    number = chars = 0
    # No recursion: a request may be nested as deep as the decoder goes.
    left: list[Any] = [request]
    while left:
        value = left.pop()
        if isinstance(value, str):
            if len(value) > _ATTACHMENT_CHARS and " " not in value[:_ATTACHMENT_CHARS]:
                number, chars = number + 1, chars + len(value)
        elif isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    return number, chars
