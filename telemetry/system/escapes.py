r"""Show text from outside as text: what a terminal would act on is escaped, as in `\x1b`.

Escape sequences move the cursor, set the window's title, hide a link's address or write to the
clipboard. Bidirectional controls reorder what is displayed. A lone surrogate can't be printed.
"""

from __future__ import annotations

import re

# C0 and C1 codes, DEL, line separators, Unicode's bidirectional controls, surrogates.
_ALL = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROL = re.compile(f"[{_ALL}]")
_CONTROL_IN_LINES = re.compile(rf"(?![\t\n])[{_ALL}]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def escape(text: str) -> str:
    """Escape all control characters, for a name, a label or a table's cell."""
    return text if text.isprintable() else _CONTROL.sub(_visible, text)


def escape_lines(text: str) -> str:
    """Escape all control characters except tabs and line ends."""
    return text if text.isprintable() else _CONTROL_IN_LINES.sub(_visible, text)


def escape_output(text: str) -> str:
    """Escape what programs print: as `escape_lines`, but without the codes that set colours.

    Programs colour their output, and its text is easier to read without the codes. They can't hide
    anything: only their colour is lost.
    """
    return escape_lines(_COLOUR.sub("", text))


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
