r"""The shapes and names of secrets: one table for the library and the Collector.

The Collector's regular expressions are RE2: without lookaround and possessive repeats. A row says
what the Collector uses if that must differ. `collector.py` beside it renders its
configuration.

All patterns take linear time. RE2 guarantees it. In the library's no repeats are nested, and each
repeat is either bounded, or over a character class that excludes what follows it.

A shell's `PWD=/home/ann` is its working directory, which helps to find a fault, and is in every
dump of an environment. So an absolute path is not a password if its name is `pwd`. It is one after
a semicolon, as in a database's `Uid=sa;Pwd=/x`, and if it has a character that is rare in paths.
"""

from __future__ import annotations

from dataclasses import dataclass

MASK = "[redacted]"


@dataclass(frozen=True)
class Secret:
    """One kind of secret.

    Args:
        hints: lower-case literals; every match must contain one of them. A text without any of all
            hints passes at once, which costs a tenth of trying every pattern.
        pattern: the library's regular expression.
        mask: replaces a match; may refer to groups.
        re2: the Collector's expressions and masks, if they must differ from the library's.
    """

    hints: tuple[str, ...]
    pattern: str
    mask: str = MASK
    re2: tuple[tuple[str, str], ...] = ()

    @property
    def in_collector(self) -> tuple[tuple[str, str], ...]:
        """The Collector's expressions and masks."""
        return self.re2 or ((self.pattern, self.mask),)


# --- names ----------------------------------------------------------------------------------------

# Names of secrets, in `key=value`, JSON, XML, options, query strings and attributes. The end of
# a name is enough: `DB_PASSWORD=` contains `PASSWORD=`. Excluded are `tokens`, which is a count,
# and a parser's `unexpected token: …`. The letters come first and lookbehinds after them, so that
# the regex engine can skip to the first letters.
_WORDS = (
    r"password|passwd|passphrase|passcode|secret(?:[._-]?key)?|credentials?|"
    r"(?:api|access|account|private|signing|encryption)[._-]?key|x-amz-signature"
)
# Between a name and its value; the backslashes are those of JSON within JSON. The quantifiers are
# possessive, so that a lookahead after the spaces is not tried before them.
_IS = r"\\{0,2}['\"]?\s{0,4}[:=]>?+\s{0,4}+"
_PATH = r"\\{0,2}['\"]?~?/[\w./@+-]*(?:[\s'\",)}\]\\<]|\Z)"
NAME = (
    rf"(?:{_WORDS}|token(?<!unexpected token)|sig(?<=[?&]sig)|auth(?<![a-z0-9]auth)|"
    rf"pwd(?<![a-z0-9]pwd)(?:(?<=;pwd)|(?<=; pwd)|(?!{_IS}{_PATH})))"
)
NAME_HINTS = ("passw", "passphrase", "passcode", "secret", "credential", "key", "token",
              "signature", "sig", "pwd", "auth")  # fmt: skip
_HEADER = r"(?:(?:proxy-)?authorization|(?:set-)?cookie)"
# A value in quotes, up to the same quote. The groups before the value are kept.
_QUOTED = r"(b?\\{0,2})(['\"])(?!\[redacted\])(?:(?!\%d)[^\\\r\n]|\\.)*"
# One character of an unquoted value. A punctuation mark ends the value only if a space, the end of
# the text or another `name=` follows.
_UNQUOTED = r"(?:[^\s'\"&,;})\]<\\]|[&,;})\]](?=[^\s'\"&,;})\]<\\])(?![\w.-]{1,40}[=:]))"
_PAIR = r"['\"]\s{0,4},\s{0,4}"  # between a name in quotes and its value
_NOT_SECRET = r"(?!\[redacted\]|(?:none|null|true|false)\b)"

# The same for RE2. `unexpected token: …`, `token=None` and the like are masked, too.
_RE2_NAME = rf"(?:{_WORDS}|token|(?:\b|_)auth)"
_RE2_IS = r"\\{0,2}['\"]?\s{0,4}[:=]>?\s{0,4}"
# Each kind of quotes has its group, because RE2 can't refer back to the opening one.
_RE2_QUOTED = (
    r"(?:(b?\")(?:[^\"\\\r\n]|\\.)*|(b?')(?:[^'\\\r\n]|\\.)*|"
    r"(b?\\{1,2}\")[^\"\\\r\n]*|(b?\\{1,2}')[^'\\\r\n]*)"
)
_RE2_KEEP = r"\1\2\3\4\5"
_PLAIN = r"[^\s'\"&,;})\]<\\]"
# After punctuation, up to a character that can't be the `=` of another name.
_RE2_MORE = r"[&,;})\]][^\s'\"&,;})\]<\\=:]"
_RE2_REST = rf"(?:{_RE2_MORE}+)*([\s'\"&,;}})\]<\\]|\z)"
_RE2_UNQUOTED = rf"[^\s'\"&,;}})\]<\\\[](?:{_PLAIN}{{2,}}|{_PLAIN}?{_RE2_MORE}{{2,}}){_RE2_REST}"
# An unquoted value of `pwd`: no absolute path, or one with a character that is rare in paths.
_RE2_NO_PATH = r"(?:[^\s'\"&,;})\]<\\\[/~]|[/~][\w./@+-]*[^\w./@+\s'\"&,;})\]<\\-])"

_NAMED_RE2_PWD = (
    (rf"(?i)((?:\b|_)pwd{_RE2_IS}){_RE2_NO_PATH}{_PLAIN}*{_RE2_REST}", rf"\1{MASK}\2"),
    (
        rf"(?i)((?:\b|_)pwd{_RE2_IS}b?\\{{0,2}}['\"])(?:[^'\"\\\r\n\[/~]|"
        r"[/~][\w./@+-]*[^'\"\\\r\n\w./@+-])[^'\"\\\r\n]*",
        rf"\1{MASK}",
    ),
    (r"(?i)(; ?pwd\s{0,4}=\s{0,4})[^\s'\";\[]+", rf"\1{MASK}"),
    (
        r"(?i)([?&]sig=)[^\s'\"&,;})\]<\\\[][^\s'\"&,;})\]<\\]{2,}",
        rf"\1{MASK}",
    ),
)

NAMED: tuple[Secret, ...] = (
    Secret(
        NAME_HINTS,
        rf"(?i)({NAME})({_IS}){_QUOTED % 4}",
        rf"\1\2\3\4{MASK}",
        re2=((rf"(?i)({_RE2_NAME}{_RE2_IS}){_RE2_QUOTED}", rf"{_RE2_KEEP}{MASK}"),),
    ),
    # Pairs, as headers in ASGI.
    Secret(
        NAME_HINTS,
        rf"(?i)({NAME})({_PAIR}){_QUOTED % 4}(?=['\"]\s{{0,4}}[)\]])",
        rf"\1\2\3\4{MASK}",
        re2=(
            (
                rf"(?i)({_RE2_NAME}{_PAIR}){_RE2_QUOTED}(['\"]\s{{0,4}}[)\]])",
                rf"{_RE2_KEEP}{MASK}\6",
            ),
        ),
    ),
    # Options in a list of arguments.
    Secret(
        NAME_HINTS,
        rf"(?i)(['\"]--[\w-]{{0,40}}{NAME})({_PAIR}){_QUOTED % 4}",
        rf"\1\2\3\4{MASK}",
        re2=(
            (
                rf"(?i)(['\"]--[\w-]{{0,40}}{_RE2_NAME}{_PAIR}){_RE2_QUOTED}",
                rf"{_RE2_KEEP}{MASK}",
            ),
        ),
    ),
    Secret(
        NAME_HINTS,
        rf"(?i)({NAME})({_IS}|>)(?!b?\\{{0,2}}['\"]){_NOT_SECRET}{_UNQUOTED}{{3,}}",
        rf"\1\2{MASK}",
        re2=(
            (rf"(?i)({_RE2_NAME}(?:{_RE2_IS}|>)){_RE2_UNQUOTED}", rf"\1{MASK}\2"),
            *_NAMED_RE2_PWD,
        ),
    ),
    # Options of a command line, with the value in the next word or in quotes.
    Secret(
        NAME_HINTS,
        rf"(?i)(?<![\w-])(--[\w-]{{0,40}}{NAME})(\s{{1,4}}){_NOT_SECRET}"
        r"(?:\"[^\"\r\n]*\"|'[^'\r\n]*'|[^\s'\"-]\S{2,})",
        rf"\1\2{MASK}",
        re2=(
            (
                rf"(?i)((?:^|[^\w-])--[\w-]{{0,40}}(?:{_RE2_NAME}|pwd)\s{{1,4}})"
                r"(?:\"[^\"\r\n]*\"|'[^'\r\n]*'|[^\s'\"\[-]\S{2,})",
                rf"\1{MASK}",
            ),
        ),
    ),
)
# Finds any such name with a value. It searches the text in lower case, which is ten times as fast
# as ignoring case.
NAMED_AT = rf"{NAME}(?:{_IS}|>|{_PAIR})"

# An attribute with such a name is masked whatever its value.
_ANYWHERE = r"passw(?:or)?d|passphrase|secret"
SECRET_ATTRIBUTE = rf"(?i)(?:.*(?:{_ANYWHERE})|(?:.*{NAME}|(?:.*[._])?{_HEADER}s?)$)"
RE2_SECRET_ATTRIBUTE = rf"(?i)(?:{_ANYWHERE}|(?:{_RE2_NAME}|(?:\b|_)pwd|(?:^|[._]){_HEADER}s?)$)"

# --- shapes ---------------------------------------------------------------------------------------

# Their order matters: a private key and a header's value are masked as a whole.
SHAPES: tuple[Secret, ...] = (
    # PEM private keys, up to their end, or if that is missing up to the end of the text.
    Secret(
        ("-----begin",),
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY[\s\S]*?(?:-----END [A-Z ]{0,40}-----|\Z)",
        re2=(
            (
                r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY[\s\S]*?(?:-----END [A-Z ]{0,40}-----|\z)",
                MASK,
            ),
        ),
    ),
    # The whole value of headers, as a line, in a mapping, or in pairs as in ASGI.
    Secret(
        ("authorization", "cookie"),
        rf"(?i)\b({_HEADER})({_IS}|{_PAIR}){_QUOTED % 4}",
        rf"\1\2\3\4{MASK}",
        re2=(
            (
                rf"(?i)\b({_HEADER}(?:{_RE2_IS}|{_PAIR})){_RE2_QUOTED}",
                rf"{_RE2_KEEP}{MASK}",
            ),
        ),
    ),
    Secret(
        ("authorization", "cookie"),
        rf"(?i)\b({_HEADER})({_IS})(?!b?\\{{0,2}}['\"]|\[redacted\])[^\r\n]{{1,8192}}",
        rf"\1\2{MASK}",
        re2=((rf"(?i)\b({_HEADER}\s{{0,4}}[:=]\s{{0,4}})[^\s'\"\\\[][^\r\n]*", rf"\1{MASK}"),),
    ),
    # With a digit or a capital letter: "basic understanding" is not a secret.
    Secret(
        ("bearer ", "basic "),
        r"\b((?i:bearer|basic))\s{1,4}(?=[\w.~+/=-]{1,400}[0-9A-Z=])[\w.~+/=-]{8,}",
        rf"\1 {MASK}",
        re2=(
            (
                r"\b((?i:bearer|basic))\s{1,4}(?:[\w.~+/=-]{1,6}[0-9A-Z=][\w.~+/=-]{6,}|"
                r"[\w.~+/=-]{7,}[0-9A-Z=][\w.~+/=-]*)",
                rf"\1 {MASK}",
            ),
        ),
    ),
    # The password in URLs; the user is kept. A password may contain / and @. A port followed by a
    # path or a query is not a password.
    Secret(
        ("://",),
        r"(://[^\s/:@?#'\"]{0,128}):(?!\d{1,5}(?:[/?#\s]|$))"
        r"(?:[^\s/?#]{1,512}|[^\s@]{1,512})@",
        rf"\1:{MASK}@",
        re2=(
            (r"(://[^\s/:@?#'\"]{0,128}:)[^\s/?#\[][^\s/?#]{0,512}@", rf"\1{MASK}@"),
            (
                r"(://[^\s/:@?#'\"]{0,128}:)"
                r"(?:\d{0,5}[^\d\s/?#@\[][^\s@]{0,512}|\d{6}[^\s@]{0,512})@",
                rf"\1{MASK}@",
            ),
        ),
    ),
    # A key in place of the user, such as in Sentry's addresses.
    Secret(("://",), r"://[\w.~-]{20,}@", f"://{MASK}@"),
    Secret(
        ("hooks.slack.com", "/webhooks/"),
        r"(hooks\.slack\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/)"
        r"[\w/-]+",
        rf"\1{MASK}",
    ),
    # Telegram bot tokens
    Secret((":aa",), r"(?<!\d)\d{6,12}:AA[\w-]{30,}", re2=((r"\d{6,12}:AA[\w-]{30,}", MASK),)),
    # JSON web tokens. The match begins at the start of a run of such characters, after a check
    # that two dots follow. Trying each `-eyJ` of many would take quadratic time.
    Secret(
        ("eyj",),
        r"(?<![\w-])(?=[\w-]{11,}+\.[\w-]*+\.)"
        r"([\w-]*?(?<![A-Za-z0-9]))eyJ[\w-]{8,}(?:\.[\w-]*){2,4}",
        rf"\1{MASK}",
        re2=((r"(?:\b|_)eyJ[\w-]{8,}(?:\.[\w-]*){2,4}", MASK),),
    ),
    # Anthropic, OpenAI, our own. With a digit or a capital letter: sk-learn is not a key.
    Secret(
        ("sk-", "tk-"),
        r"(?<![A-Za-z0-9])[st]k-(?=[a-z_-]{0,64}[0-9A-Z])[\w-]{16,}",
        re2=(
            (
                r"(?:\b|_)[st]k-(?:[a-z_-]{0,14}[0-9A-Z][\w-]{15,}|[\w-]{15,}[0-9A-Z][\w-]*)",
                MASK,
            ),
        ),
    ),
    # Stripe
    Secret(("k_live_", "k_test_", "whsec_"), r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{8,}"),
    # GitHub, GitLab, npm, Hugging Face
    Secret(
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "npm_", "hf_"),
        r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|"
        r"npm_[A-Za-z0-9]{30,}|hf_[A-Za-z0-9]{30,}",
    ),
    # Slack, PyPI, Grafana, Vault, DigitalOcean, SendGrid, Google
    Secret(
        ("xox", "pypi-", "glsa_", "hvs.", "dop_v1_", "sg.", "ya29."),
        r"xox[abeoprs]-[A-Za-z0-9-]{10,}|pypi-[\w-]{40,}|glsa_\w{32,}|hvs\.[\w-]{20,}|"
        r"dop_v1_[0-9a-f]{40,}|SG\.[\w-]{16,}\.[\w-]{16,}|ya29\.[\w-]{20,}",
    ),
    # AWS, Google
    Secret(("akia", "asia", "aiza"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|AIza[\w-]{30,}"),
)
