"""What must never leave the process: keys, passwords, tokens, cookies, credentials in URLs.

Patterns are linear: no nested repeats, every repeat over a class that what follows is not in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from telemetry.errors import ConfigError

MASK = "[redacted]"

# Keys whose value is a secret, in `key=value`, JSON, query strings and headers.
# The end of a key is enough: `DB_PASSWORD=` has `PASSWORD=` in it.
_SECRET_KEY = (
    r"(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"credentials?|(?<![a-z0-9])(?:token|pwd|auth))"
)
_PATTERNS: tuple[tuple[str, str], ...] = (
    # PEM private keys, up to their end or, cut short, to the text's.
    (
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?",
        MASK,
    ),
    # Authorization, Cookie and key headers: the whole value, to the line's end or quote.
    (
        r"(?i)\b((?:proxy-)?authorization|set-cookie|cookie|x-api-key|x-auth-token)"
        r"(['\"]?\s{0,4}[:=,]\s{0,4}(?:b(?=['\"]))?['\"]?)(?!\[redacted\])[^'\"\r\n]{1,4096}",
        rf"\1\2{MASK}",
    ),
    (r"(?i)\b(bearer|basic)\s{1,4}[A-Za-z0-9._~+/=-]{8,}", rf"\1 {MASK}"),
    # Credentials in URLs keep the user, lose the password.
    (r"(://[^\s/:@]{1,128}):[^\s/@]{1,512}@", rf"\1:{MASK}@"),
    (r"https://hooks\.slack\.com/services/[\w/]+", f"https://hooks.slack.com/services/{MASK}"),
    (r"\b\d{6,12}:AA[A-Za-z0-9_-]{30,}", MASK),  # Telegram bot tokens
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", MASK),  # JSON web tokens
    (r"\b(?:sk|tk|rk|pk)[-_][A-Za-z0-9_-]{16,}", MASK),  # Anthropic, OpenAI, Stripe, our own
    (r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}", MASK),
    (r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}", MASK),
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}", MASK),
    (
        rf"(?i)\b({_SECRET_KEY})(['\"]?\s{{0,4}}[:=]\s{{0,4}}['\"]?)"
        r"(?!\[redacted\]|(?:none|null|true|false)\b)[^\s'\"&,;}\]]{3,}",
        rf"\1\2{MASK}",
    ),
)
# One of these stands, in lower case, in whatever the patterns match: a line without them is let
# through at once. Looking for each takes a microsecond in all; one pattern with all took twenty.
_HINTS = (
    "-----begin", "auth", "cookie", "key", "bearer ", "basic ", "://", ":aa", "eyj", "sk-", "sk_",
    "tk-", "tk_", "rk-", "rk_", "pk-", "pk_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_",
    "github_pat", "glpat", "xox", "akia", "asia", "aiza", "passw", "passphrase", "secret",
    "credential", "token", "pwd",
)  # fmt: skip
_KEY = re.compile(
    rf"(?i)^(?:.*{_SECRET_KEY}|(?:proxy-)?authorization|(?:set-)?cookies?|x-api-key|.*\.(?:"
    r"authorization|cookie|set-cookie|x-api-key|password|token|secret))$"
)
# Counts that are called tokens are not secrets.
_COUNT = re.compile(r"(?i)tokens?(?:[_.-]?(?:in|out|input|output|count|total|used|usage|type))?$")


class Redactor:
    """Takes secrets out of text and attributes.

    Args:
        extra: further regular expressions; what they match is masked.

    Raises:
        ConfigError: one is not a regular expression.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self._patterns = [(re.compile(pattern), mask) for pattern, mask in _PATTERNS]
        self._extra = [_compiled(pattern) for pattern in extra]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Redactor:
        """With the patterns of TELEMETRY_REDACT_PATTERNS, one a line.

        Raises:
            ConfigError: one is not a regular expression.
        """
        lines = environ.get("TELEMETRY_REDACT_PATTERNS", "").splitlines()
        return cls(line.strip() for line in lines if line.strip())

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        lower = text.lower()
        if any(hint in lower for hint in _HINTS):
            for pattern, mask in self._patterns:
                text = pattern.sub(mask, text)
        for pattern in self._extra:
            text = pattern.sub(MASK, text)
        return text

    def attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes without secrets: by their keys, and in their texts."""
        return {
            key: self._value(key, value) if isinstance(value, str) else value
            for key, value in attributes.items()
        }

    def _value(self, key: str, value: str) -> str:
        if _KEY.match(key) and not (_COUNT.search(key) and value.isdigit()):
            return MASK
        return self.text(value)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            "TELEMETRY_REDACT_PATTERNS", pattern, f"a regular expression ({error})"
        ) from error


_default = Redactor()


def redact(text: str) -> str:
    """``text`` without secrets, by the patterns every installation has."""
    return _default.text(text)
