"""Secrets of every shape are masked anywhere in a text; ordinary text is unchanged."""

from __future__ import annotations

import base64
import json
import random
import re
import string
import urllib.parse
from collections.abc import Callable

import pytest

from telemetry import ConfigError
from telemetry.redaction import MASK, Redactor, is_secret, redact

_random = random.Random(42)


def _some(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(_random.choices(alphabet, k=length))


def _jwt() -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': _some(8)})}.{_some(43)}"


PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,A1\n\n"
    "MIIEowIBAAKCAQEA7bq5\nl2k4\n-----END RSA PRIVATE KEY-----"
)

# Keys with a known shape, masked anywhere. They are split in parts, so that secret scanners don't
# report this file.
BY_SHAPE: dict[str, Callable[[], str]] = {
    "anthropic": lambda: "sk-ant-" + "api03-" + _some(90),
    "openai": lambda: "sk-" + "proj-" + _some(48),
    "our own": lambda: "tk-" + _some(43),
    "stripe": lambda: "sk_" + "live_" + _some(24),
    "github": lambda: "gh" + "p_" + _some(36),
    "github fine-grained": lambda: "github" + "_pat_" + _some(22) + "_" + _some(59),
    "gitlab": lambda: "gl" + "pat-" + _some(20),
    "slack": lambda: "xo" + "xb-" + "1234567890-" + _some(24),
    "aws": lambda: "AK" + "IA" + _some(16, string.ascii_uppercase + string.digits),
    "google": lambda: "AI" + "za" + _some(35),
    "telegram": lambda: "1234567890:" + "AA" + _some(33),
    "hugging face": lambda: "h" + "f_" + _some(34),
    "npm": lambda: "np" + "m_" + _some(36),
    "sendgrid": lambda: "S" + "G." + _some(22) + "." + _some(43),
    "grafana": lambda: "gl" + "sa_" + _some(32) + "_" + _some(8, "0123456789abcdef"),
    "jwt": _jwt,
    "pem": lambda: PEM,
}
AROUND = (
    "{}",
    "using {} now",
    "key={}&x=1",
    "https://api.example.com/{}/send",
    "{{'k': '{}'}}",
    '{{"k": "{}"}}',
    "[{}]",
    "<{}>",
    "({},)",
    "a_{}",
)


@pytest.mark.parametrize("kind", BY_SHAPE)
@pytest.mark.parametrize("around", AROUND)
def test_key_of_known_shape_is_masked_anywhere(kind: str, around: str) -> None:
    if kind == "aws" and around == "a_{}":
        pytest.skip("four letters and sixteen more within a word are a word")
    secret = BY_SHAPE[kind]()
    masked = redact(around.format(secret))
    assert MASK in masked
    for piece in re.findall(r"\w{8,}", secret.replace("PRIVATE", "")):
        assert piece not in masked, masked


NAMES = (
    "password",
    "DB_PASSWORD",
    "db-passwd",
    "passphrase",
    "secret",
    "client_secret",
    "clientSecret",
    "SECRET_KEY",
    "api_key",
    "apiKey",
    "API-KEY",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "access_key",
    "aws_secret_access_key",
    "AccountKey",
    "SharedAccessKey",
    "private_key",
    "signing_key",
    "encryption_key",
    "token",
    "access_token",
    "accessToken",
    "refresh_token",
    "csrf_token",
    "x-auth-token",
    "credentials",
    "pwd",
    "auth",
    "_auth",
    "X-Amz-Signature",
)
FORMS: dict[str, Callable[[str, str], str]] = {
    "environment": lambda name, value: f"{name}={value}",
    "logfmt": lambda name, value: f'level=info {name}="{value}" n=1',
    "yaml": lambda name, value: f"{name}: {value}",
    "json": lambda name, value: json.dumps({"a": 1, name: value, "z": [2]}),
    "tight json": lambda name, value: json.dumps({name: value}, separators=(",", ":")),
    "json in json": lambda name, value: json.dumps({"body": json.dumps({name: value, "z": 1})}),
    "repr": lambda name, value: repr({name: value, "z": 1}),
    "repr of bytes": lambda name, value: repr({name: value.encode()}),
    "keyword": lambda name, value: f"connect(host='h', {name}='{value}', n=2)",
    "query": lambda name, value: f"GET /x?a=1&{urllib.parse.urlencode({name: value})}&b=2",
    "rocket": lambda name, value: f"'{name}' => '{value}'",
    "xml": lambda name, value: f"<{name}>{value}</{name}>",
    "option": lambda name, value: f"run --{name} {value} --verbose",
    "option with =": lambda name, value: f"run --{name}={value} --verbose",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_value_with_a_secret_name_is_masked_in_every_form(name: str, form: str) -> None:
    for value in ("hunter2", _some(24), _some(12) + "-_./+" + _some(4), "12345678"):
        masked = redact(FORMS[form](name, value))
        encoded = urllib.parse.quote_plus(value)
        assert value not in masked, masked
        assert encoded not in masked, masked
        assert MASK in masked
        assert name.lower() in masked.lower(), "the name must stay visible"


@pytest.mark.parametrize("form", ["json", "json in json", "repr", "keyword", "logfmt"])
@pytest.mark.parametrize("value", ["correct horse, battery; staple", "a b", "it has ] } ) in it"])
def test_a_quoted_value_is_masked_to_its_closing_quote(form: str, value: str) -> None:
    masked = redact(FORMS[form]("password", value))
    for word in re.findall(r"\w{3,}", value):
        assert not re.search(rf"\b{word}\b", masked.replace("connect", "")), masked


@pytest.mark.parametrize("value", ["p)ssword1", "ab;cd;ef123", "Tr0ub4dor&3zz", "a,b}c]d"])
def test_punctuation_within_a_value_is_masked_too(value: str) -> None:
    assert redact(f"DB_PASSWORD={value}") == f"DB_PASSWORD={MASK}"
    assert redact(f"connect(password={value}, n=3)") == f"connect(password={MASK}, n=3)"
    assert redact(f"password={value}&user=ann") == f"password={MASK}&user=ann"


def test_text_beside_a_masked_value_is_kept() -> None:
    assert redact('{"user": "ann", "password": "p w", "n": 3}') == (
        f'{{"user": "ann", "password": "{MASK}", "n": 3}}'
    )
    assert redact("GET /login?user=ann&token=abcdef&lang=de 200") == (
        f"GET /login?user=ann&token={MASK}&lang=de 200"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}",
        "authorization: {}",
        "Proxy-Authorization: Basic {}",
        "Cookie: session={}; theme=dark",
        'cookie: a="{}"; b=2',
        "Set-Cookie: session={}; HttpOnly",
        "{{'authorization': 'Bearer {}', 'accept': '*/*'}}",
        '{{"Cookie": "id={}; x=1"}}',
        "[(b'host', b'h'), (b'authorization', b'Bearer {}'), (b'accept', b'*/*')]",
        "[('cookie', 'id={}')]",
        "[(b'host', b'h'), (b'x-api-key', b'{}'), (b'accept', b'*/*')]",
        "[[b'x-auth-token', b'{}']]",
        "curl -H 'Authorization: Bearer {}' https://example.com",
        "called with bearer {} twice",
        "proxy said Basic {}",
    ],
)
def test_headers_that_carry_secrets_are_masked(text: str) -> None:
    secret = base64.b64encode(f"ann:{_some(14)}".encode()).decode()
    masked = redact(text.format(secret))
    assert secret not in masked, masked
    assert secret.rstrip("=") not in masked
    assert MASK in masked


def test_header_beside_a_masked_one_is_kept() -> None:
    text = "{'authorization': 'Bearer abc.def', 'accept': 'text/html'}"
    assert redact(text) == f"{{'authorization': '{MASK}', 'accept': 'text/html'}}"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://ann:hunter2@db/x", f"postgresql://ann:{MASK}@db/x"),
        ("redis://:hunter2@cache:6379/0", f"redis://:{MASK}@cache:6379/0"),
        ("amqp://u:p@ss@host/v", f"amqp://u:{MASK}@host/v"),
        ("postgres://u:pa/ss?1@host/x", f"postgres://u:{MASK}@host/x"),
        ("https://0123456789abcdef0123@sentry.io/1", f"https://{MASK}@sentry.io/1"),
        (
            "https://hooks.slack.com/services/T0/B0/xyz",
            f"https://hooks.slack.com/services/{MASK}",
        ),
        (
            "https://hooks.slack.com/workflows/T0/A0/1/xyz",
            f"https://hooks.slack.com/workflows/{MASK}",
        ),
    ],
)
def test_only_credentials_of_urls_are_masked(url: str, masked: str) -> None:
    assert redact(url) == masked
    assert redact(f"could not connect to {url}: timed out") == (
        f"could not connect to {masked}: timed out"
    )


ORDINARY = (
    '127.0.0.1:51334 - "GET /items/1?page=2 HTTP/1.1" 200',
    "Uvicorn running on http://127.0.0.1:8000 (Press CTRL+C to quit)",
    "http://host:8080/users/@me and http://host:8080?email=ann@example.com",
    "see https://example.com/a/b:c@d",
    "mail ann@example.com about order 4711",
    "Bring a cookie, please; cookies are fine too",
    "Basic understanding of bearer authentication is required",
    "Basic Authentication failed for the bearer instruments",
    "the key is under the mat; keyboard, monkey, keyed by id",
    "primary key constraint pk_customer_orders_by_country violated",
    "sk-learn-based-classifier-for-text trained",
    "tokens_in=512 tokensOut=128 max_tokens: 4096 total tokens: 640",
    "unexpected token: identifier at line 3",
    "the author of the token economy signed the signature page",
    "password must have 12 characters",
    "secrets are kept, passwords hashed, credentials rotated",
    "['password', 'email', 'name']",
    "token=None password=null secret: false",
    "design: significant; assignee: bob; signal=SIGTERM",
    "asia-northeast1 and ASIA are regions",
    "commit 884e7d4f0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "trace 4bf92f3577b34da6a3ce929d0e0e4736 span 00f067aa0ba902b7",
    "123e4567-e89b-12d3-a456-426614174000",
    "12:34:56 took 1.5 s: ok",
    "sessionId: web-8f3a user_id=ann model=gpt-5",
    'File "/app/auth/token.py", line 12, in check_password',
    "ValueError: invalid literal for int() with base 10: 'x'",
    "sendTelemetry(): 12345:ABC is no bot",
    "Grüße aus München, 東京 🙂",
    "",
)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_redaction_is_idempotent() -> None:
    for form in FORMS.values():
        for name in NAMES:
            once = redact(form(name, "hunter2 x"))
            assert redact(once) == once


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "seed",
    [
        "password",
        "://a",
        "://a:b",
        "://:@:",
        "Bearer a",
        "eyJaaaaaaaa.",
        "cookie: '\\",
        "sk-a",
        "-----BEGIN PRIVATE KEY",
        "token='",
        "--a-token ",
        "1:AA",
        '\\"auth\\":',
        "xoxb-",
        "-eyJ",
        "_eyJa",
        "-eyJaaaaaaaa.",
        "--",
        "pwd=/a",
        "pwd:'~/",
        ";pwd=",
        "--password '",
        "--password \"a --token '",
        "'--password', '",
        "?sig=",
        "password=a,",
        "password=&",
        "'token', '",
    ],
)
def test_hostile_text_is_redacted_in_linear_time(seed: str) -> None:
    """A linear pattern needs much less than a second here, a quadratic one minutes."""
    assert redact(seed * 10_000) is not None


def test_a_telegram_token_in_its_url_is_masked() -> None:
    token = BY_SHAPE["telegram"]()
    assert redact(f"POST https://api.telegram.org/bot{token}/sendMessage") == (
        f"POST https://api.telegram.org/bot{MASK}/sendMessage"
    )


def test_attributes_are_masked_by_their_names_and_in_their_texts() -> None:
    given = {
        "db.password": "hunter2",
        "http.request.header.authorization": "Basic x",
        "http.request.header.cookie": "a=b",
        "pin_token": 123456,
        "url.full": "https://ann:hunter2@example.com/",
        "user.id": "ann",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.token.type": "input",
        "retries": 3,
        "ok": True,
        "process.command_args": ("mysql", "--password", "hunter2", "--token=hunter2", "shop"),
    }
    assert Redactor().attributes(given) == {
        **given,
        "db.password": MASK,
        "http.request.header.authorization": MASK,
        "http.request.header.cookie": MASK,
        "pin_token": MASK,
        "url.full": f"https://ann:{MASK}@example.com/",
        "process.command_args": ["mysql", "--password", MASK, f"--token={MASK}", "shop"],
    }


def test_names_of_counts_and_words_are_not_masked() -> None:
    for name in ("tokens", "max_tokens", "author", "keys", "authority", "cookie_count", "sigma"):
        assert not is_secret(name), name


def test_further_patterns_come_from_the_environment() -> None:
    patterns = "\n  CUST-[0-9]{6}  \n\n(?i)iban [A-Z0-9 ]+\n"
    redactor = Redactor.from_env({"TELEMETRY_REDACT_PATTERNS": patterns})
    assert redactor.text("for CUST-123456, iban DE12 3456") == f"for {MASK}, {MASK}"
    assert redactor.text("password=hunter2") == f"password={MASK}"


def test_invalid_pattern_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"TELEMETRY_REDACT_PATTERNS='\(' is not a regular"):
        Redactor.from_env({"TELEMETRY_REDACT_PATTERNS": "fine\n("})
