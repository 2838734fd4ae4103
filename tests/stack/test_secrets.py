"""The collector masks secrets from any sender and leaves ordinary text unchanged."""

from __future__ import annotations

import json

import pytest

from tests.fixtures.stack import Stack
from tests.stack.sending import lines, send_log

pytestmark = pytest.mark.stack

LETTERS = "aZ3bY4cX5dW6eV7fU8gT9hS1iR2jQ3kP4lO5mN6"
PEM = "-----BEGIN RSA PRIVATE KEY-----\n{}\nl2k4\n-----END RSA PRIVATE KEY-----"
SECRET = [
    ("key", "calling with sk-ant-api03-abcdefghijklmnop", "abcdefghijklmnop"),
    ("password", "login password=hunter22 failed", "hunter22"),
    ("url", "connecting to postgres://app:s3cretpass@db/app", "s3cretpass"),
    ("bearer", "authorization: Bearer abcdef0123456789", "abcdef0123456789"),
    ("jwt", "got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "eyJzdWIiOiIxIn0"),
    ("github", "pushed with ghp_abcdefghijklmnopqrst1234", "ghp_abcdefghij"),
    ("json", '{"api_key": "0123456789abcdef"}', "0123456789abcdef"),
    ("basic", "reported Basic YW5uOmh1bnRlcjI=", "YW5uOmh1bnRlcjI"),
    ("basic-header", "Proxy-Authorization: Basic YW5uOmh1bnRlcjI=", "YW5uOmh1bnRlcjI"),
    ("plain-header", "authorization: hunter22", "hunter22"),
    ("cookie", "Cookie: session=hunter22; theme=dark9", "dark9"),
    ("set-cookie", "set-cookie: a=1; id=hunter22; HttpOnly", "hunter22"),
    ("cookie-in-json", '{"cookie": "a=1; id=hunter22", "n": 1}', "hunter22"),
    ("cookie-in-repr", "{'cookie': b'a=1; id=hunter22', 'n': 1}", "hunter22"),
    ("header-in-a-pair", "[(b'cookie', b'a=1; id=hunter22')]", "hunter22"),
    ("pem", f"read {PEM.format('MIIEowIBAAKCAQEA7bq5')} done", "MIIEowIBAAKCAQEA7bq5"),
    ("cut-pem", f"read {PEM.format('MIIEowIBAAKCAQEA7bq5')[:60]}", "MIIEowIB"),
    # Written in parts, so that scanners of repositories don't report them as leaked keys.
    ("stripe", "charged with " + "sk_" + "live_" + LETTERS[:24], LETTERS[:24]),
    ("stripe-restricted", "charged with " + "rk_" + "live_" + LETTERS[:24], LETTERS[:24]),
    ("slack-hook", "posted to https://hooks.slack.com/services/T0/B0/xyzzy9", "xyzzy9"),
    ("discord-hook", "posted to https://discord.com/api/webhooks/12/xyzzy9", "xyzzy9"),
    (
        "telegram",
        "POST https://api.telegram.org/bot1234567890:" + "AA" + LETTERS[:33],
        LETTERS[:33],
    ),
    ("gitlab", "cloned with gl" + "pat-" + LETTERS[:20], LETTERS[:20]),
    ("npm", "published with np" + "m_" + LETTERS[:36], LETTERS[:36]),
    ("hugging-face", "loaded with h" + "f_" + LETTERS[:34], LETTERS[:34]),
    ("google", "mapped with AI" + "za" + LETTERS[:35], LETTERS[:35]),
    ("pypi", "uploaded with py" + "pi-" + LETTERS * 2, LETTERS),
]
ORDINARY = [
    '127.0.0.1:51334 - "GET /items/1?page=2 HTTP/1.1" 200',
    "Basic understanding of bearer authentication is required",
    "Basic Authentication failed for the bearer instruments",
    "Bring a cookie, please; cookies are fine too",
    "the authorization was refused, its author unknown",
    "sk-learn-based-classifier-for-text trained by task-runner-of-the-night-0001",
    "-----BEGIN CERTIFICATE----- MIIB -----END CERTIFICATE-----",
    "see https://hooks.slack.com/docs and https://discord.com/api/v10",
    "12:34:56 took 1.5 s: ok; 12345:ABC is no bot",
    "the hf_hub and npm_config_cache and pypi-server of glpat",
    "tokens_in=512 tokensOut=128 max_tokens: 4096",
    "commit 884e7d4f0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "password must have 12 characters",
]


@pytest.mark.parametrize(("name", "text", "secret"), SECRET, ids=[name for name, *_ in SECRET])
def test_secret_is_masked(stack: Stack, name: str, text: str, secret: str) -> None:
    """The secret is masked both in the line and in an attribute."""
    service = f"secret-{name}"
    send_log(stack, service, text, note=text)
    (entry,) = lines(stack, f'{{service_name="{service}"}}', 1)
    assert secret not in json.dumps(entry)
    assert text.split()[0].strip('{":') in entry["line"], "the rest of the line stays"


def test_ordinary_text_is_unchanged(stack: Stack) -> None:
    for text in ORDINARY:
        send_log(stack, "ordinary", text, note=text)
    found = lines(stack, '{service_name="ordinary"}', len(ORDINARY))
    assert [entry["line"] for entry in found] == ORDINARY
    assert [entry["labels"]["note"] for entry in found] == ORDINARY


def test_attribute_with_name_of_secret_is_masked(stack: Stack) -> None:
    send_log(stack, "masked", "a line", db_password="hunter22", tokensIn="12")
    (entry,) = lines(stack, '{service_name="masked"}', 1)
    assert "hunter22" not in json.dumps(entry)
    assert entry["labels"]["tokensIn"] == "12", "a number of tokens is not a secret"
