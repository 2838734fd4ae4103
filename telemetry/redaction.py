"""Mask secrets: keys, passwords, tokens, cookies, credentials in URLs.

All patterns take linear time. No repeats are nested, and each repeat is either bounded, or over a
character class that excludes what follows it. In doubt a text is masked: a missing detail can be
looked up, a leaked secret can't be taken back.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from telemetry.errors import ConfigError

MASK = "[redacted]"

# Names of secrets, in `key=value`, JSON, XML, options, query strings and attributes. The end of
# a name is enough: `DB_PASSWORD=` contains `PASSWORD=`. Excluded are `tokens`, which is a count,
# and a parser's `unexpected token: …`. The letters come first and lookbehinds after them, so that
# the regex engine can skip to the first letters.
_NAME = (
    r"(?:password|passwd|passphrase|passcode|secret(?:[_-]?key)?|credentials?|"
    r"(?:api|access|account|private|signing|encryption)[_-]?key|"
    r"token(?<!unexpected token)|x-amz-signature|sig(?<=[?&]sig)|"
    r"pwd(?<![a-z0-9]pwd)|auth(?<![a-z0-9]auth))"
)
_HEADER = r"(?:(?:proxy-)?authorization|(?:set-)?cookie)"
# Between a name and its value; the backslashes are those of JSON within JSON. The quantifiers are
# possessive, so that a lookahead after the spaces is not tried before them.
_IS = r"\\{0,2}['\"]?\s{0,4}[:=]>?+\s{0,4}+"
# A value in quotes, up to the same quote. The groups before the value are kept.
_QUOTED = r"(b?\\{0,2})(['\"])(?!\[redacted\])(?:(?!\%d)[^\\\r\n]|\\.)*"
# One character of an unquoted value. A punctuation mark ends the value only if a space, the end of
# the text or another `name=` follows.
_UNQUOTED = r"(?:[^\s'\"&,;})\]<\\]|[&,;})\]](?=[^\s'\"&,;})\]<\\])(?![\w.-]{1,40}[=:]))"
_PAIR = r"['\"]\s{0,4},\s{0,4}"  # between a name in quotes and its value
_NOT_SECRET = r"(?!\[redacted\]|(?:none|null|true|false)\b)"

# Each pattern with lower-case literals; every match must contain one of them. A text without any
# of these passes at once, which costs a tenth of trying every pattern.
_PATTERNS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    # PEM private keys, up to their end, or if that is missing up to the end of the text.
    (
        ("-----begin",),
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY[\s\S]*?(?:-----END [A-Z ]{0,40}-----|\Z)",
        MASK,
    ),
    # The whole value of headers, as a line, in a mapping, or in pairs as in ASGI.
    (
        ("authorization", "cookie"),
        rf"(?i)\b({_HEADER})({_IS}|{_PAIR}){_QUOTED % 4}",
        rf"\1\2\3\4{MASK}",
    ),
    (
        ("authorization", "cookie"),
        rf"(?i)\b({_HEADER})({_IS})(?!b?\\{{0,2}}['\"]|\[redacted\])[^\r\n]{{1,8192}}",
        rf"\1\2{MASK}",
    ),
    # With a digit or a capital letter: "basic understanding" is not a secret.
    (
        ("bearer ", "basic "),
        r"\b((?i:bearer|basic))\s{1,4}(?=[\w.~+/=-]{1,400}[0-9A-Z=])[\w.~+/=-]{8,}",
        rf"\1 {MASK}",
    ),
    # The password in URLs; the user is kept. A password may contain / and @. A port followed by a
    # path or a query is not a password.
    (
        ("://",),
        r"(://[^\s/:@?#'\"]{0,128}):(?!\d{1,5}(?:[/?#\s]|$))"
        r"(?:[^\s/?#]{1,512}|[^\s@]{1,512})@",
        rf"\1:{MASK}@",
    ),
    (("://",), r"://[\w.~-]{20,}@", f"://{MASK}@"),
    (
        ("hooks.slack.com", "/webhooks/"),
        r"(hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/)[\w/-]+",
        rf"\1{MASK}",
    ),
    ((":aa",), r"(?<!\d)\d{6,12}:AA[\w-]{30,}", MASK),  # Telegram bot tokens
    # JSON web tokens. The match begins at the start of a run of such characters, after a check
    # that two dots follow. Trying each `-eyJ` of many would take quadratic time.
    (
        ("eyj",),
        r"(?<![\w-])(?=[\w-]{11,}+\.[\w-]*+\.)"
        r"([\w-]*?(?<![A-Za-z0-9]))eyJ[\w-]{8,}(?:\.[\w-]*){2,4}",
        rf"\1{MASK}",
    ),
    # Anthropic, OpenAI, our own, Stripe. With a digit or a capital letter: sk-learn is not a key.
    (
        ("sk-", "tk-"),
        r"(?<![A-Za-z0-9])[st]k-(?=[a-z_-]{0,64}[0-9A-Z])[\w-]{16,}",
        MASK,
    ),
    (("k_live_", "k_test_", "whsec_"), r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{8,}", MASK),
    (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "npm_", "hf_"),
        r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|"
        r"npm_[A-Za-z0-9]{30,}|hf_[A-Za-z0-9]{30,}",
        MASK,
    ),
    (
        ("xox", "pypi-", "glsa_", "hvs.", "dop_v1_", "sg.", "ya29."),
        r"xox[abeoprs]-[A-Za-z0-9-]{10,}|pypi-[\w-]{40,}|glsa_\w{32,}|hvs\.[\w-]{20,}|"
        r"dop_v1_[0-9a-f]{40,}|SG\.[\w-]{16,}\.[\w-]{16,}|ya29\.[\w-]{20,}",
        MASK,
    ),
    (("akia", "asia", "aiza"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|AIza[\w-]{30,}", MASK),
)
_NAMED: tuple[tuple[str, str], ...] = (
    (rf"({_NAME})({_IS}){_QUOTED % 4}", rf"\1\2\3\4{MASK}"),
    # Pairs, as headers in ASGI.
    (rf"({_NAME})({_PAIR}){_QUOTED % 4}(?=['\"]\s{{0,4}}[)\]])", rf"\1\2\3\4{MASK}"),
    (
        rf"({_NAME})({_IS}|>)(?!b?\\{{0,2}}['\"]){_NOT_SECRET}{_UNQUOTED}{{3,}}",
        rf"\1\2{MASK}",
    ),
    # Options of a command line, with the value in the next word.
    (rf"(?<![\w-])(--[\w-]{{0,40}}{_NAME})(\s{{1,4}}){_NOT_SECRET}[^\s-]\S{{2,}}", rf"\1\2{MASK}"),
)
_NAME_HINTS = ("passw", "passphrase", "passcode", "secret", "credential", "key", "token",
               "signature", "sig", "pwd", "auth")  # fmt: skip
# Finds any such name with a value. It searches the text in lower case, which is ten times as fast
# as ignoring case.
_NAMED_AT = re.compile(rf"{_NAME}(?:{_IS}|>|{_PAIR})")

_HINTS = tuple(dict.fromkeys([*(h for hints, _, _ in _PATTERNS for h in hints), *_NAME_HINTS]))
_COMPILED = tuple((hints, re.compile(pattern), mask) for hints, pattern, mask in _PATTERNS)
_COMPILED_NAMED = tuple((re.compile(pattern, re.I), mask) for pattern, mask in _NAMED)
_SECRET_ATTRIBUTE = re.compile(rf"(?i)(?:.*{_NAME}|(?:.*[._])?{_HEADER}s?)$")


class Redactor:
    """Masks secrets in texts and attributes.

    Args:
        extra: further regular expressions; their matches are masked.

    Raises:
        ConfigError: one of them is not a regular expression.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self._extra = [_compiled(pattern) for pattern in extra]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Redactor:
        """Create a redactor with the patterns of TELEMETRY_REDACT_PATTERNS, one per line.

        Raises:
            ConfigError: one of them is not a regular expression.
        """
        lines = environ.get("TELEMETRY_REDACT_PATTERNS", "").splitlines()
        return cls(line.strip() for line in lines if line.strip())

    def text(self, text: str) -> str:
        """Mask secrets in ``text``."""
        lower = text.lower()
        found = {hint for hint in _HINTS if hint in lower}
        if found:
            for hints, pattern, mask in _COMPILED:
                if not found.isdisjoint(hints):
                    text = pattern.sub(mask, text)
            if not found.isdisjoint(_NAME_HINTS) and ("--" in lower or _NAMED_AT.search(lower)):
                for pattern, mask in _COMPILED_NAMED:
                    text = pattern.sub(mask, text)
        for pattern in self._extra:
            text = pattern.sub(MASK, text)
        return text

    def attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Mask attributes with secret names, and secrets in the texts of others."""
        return {key: self._value(key, value) for key, value in attributes.items()}

    def _value(self, key: str, value: Any) -> Any:
        if is_secret(key):
            return MASK
        return self.text(value) if isinstance(value, str) else value


@functools.lru_cache(maxsize=1024)
def is_secret(name: str) -> bool:
    """Check whether ``name`` is the name of a secret, e.g. ``db.password``."""
    return _SECRET_ATTRIBUTE.match(name) is not None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            "TELEMETRY_REDACT_PATTERNS", pattern, f"a regular expression ({error})"
        ) from error


_default = Redactor()


def redact(text: str) -> str:
    """Mask secrets in ``text``, by the built-in patterns only."""
    return _default.text(text)
