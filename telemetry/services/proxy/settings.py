"""The proxy's settings, read once from the environment and an optional file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from telemetry.errors import ConfigError, TelemetryError
from telemetry.redaction import redact
from telemetry.services.prompts import PROMPTS
from telemetry.services.proxy.wires import WIRES, Wire
from telemetry.settings import credentials
from telemetry.settings.declare import (
    PATH,
    SECRET,
    TEXT,
    Declared,
    Kind,
    Setting,
    choice,
    declared,
    derived,
    setting,
    whole_number,
)
from telemetry.settings.hosts import HOSTS
from telemetry.settings.library import METRICS_PATH
from telemetry.settings.stack import HOME, PORT_SETTINGS, URL_SETTINGS
from telemetry.system.json_http import is_loopback

OnDisconnect = Literal["drain", "cancel"]

_UPSTREAM_KEYS = {"wire", "url", "key_env", "models", "prices", "fallback"}


@dataclass(frozen=True)
class Upstream:
    """A provider, or anything that speaks one's wire format.

    Args:
        name: as the ledger and metrics show it.
        wire: the name of the format it speaks.
        url: base address up to and with the version, e.g. ``https://api.openai.com/v1``.
        key: its API key; ``""`` sends none. Never shown, never logged.
        key_env: the variable the key comes from, for messages.
        models: name globs of the models that go there; the first upstream that matches wins.
        prices: genai-prices' provider id, or ``""`` to find prices by model name.
        fallback: the upstream to try when this one can't be reached or fails, or ``""``.
    """

    name: str
    wire: str
    url: str
    key: str = field(default="", repr=False)
    key_env: str = ""
    models: tuple[str, ...] = ("*",)
    prices: str = ""
    fallback: str = ""

    @property
    def needs_key(self) -> bool:
        """True if it needs a key: always, except on this machine."""
        return not is_loopback(urlsplit(self.url).hostname or "")

    def serves(self, model: str) -> bool:
        """Check whether it serves ``model``."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(text)
    return value


def _table(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).expanduser().read_text())
    except (OSError, ValueError) as error:
        raise TelemetryError(
            f"TELEMETRY_PROXY_UPSTREAMS: {path} can't be read: {error}",
            remedy="name a TOML file with [upstreams.NAME] tables, or unset the variable",
            exit_code=78,
        ) from error


def _base(url: str) -> str:
    """Return a base address without a slash at its end, with ``/v1`` if it names no path."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(url)
    return url.rstrip("/") if parts.path.strip("/") else url.rstrip("/") + "/v1"


SECONDS = Kind(_seconds, "a number of seconds above 0", lambda value: f"{value:g}")
BASE_URL = Kind(_base, "an address such as http://127.0.0.1:11434/v1")
LEDGER_URL = Setting(
    "TELEMETRY_LEDGER_URL",
    TEXT,
    "sqlite:///ledger.db",
    "database of the ledger: a `sqlite:` URL, or `postgresql://user@host/database`",
    otherwise=lambda environ: f"sqlite:///{HOME.read(environ) / 'ledger.db'}",
    shown="sqlite:///$TELEMETRY_HOME/ledger.db",
)
UPSTREAMS = Setting(
    "TELEMETRY_PROXY_UPSTREAMS",
    Kind(_table, "a TOML file"),
    {},
    "TOML file of further upstreams and model aliases",
    otherwise=lambda environ: {},
    shown="none",
)


@dataclass(frozen=True)
class Settings(Declared):
    """The proxy's settings.

    Args:
        admin_token: for the admin API; ``""`` switches it off.
        upstreams: in the order they are tried for a model.
        aliases: alternative names of models.
        read_timeout_s: longest silence of an upstream; an answer in one piece, silent until
            its end, has the call's whole time.
        total_timeout_s: longest call, with retries and fallbacks; its reservation expires a
            minute later.
        retries: further tries on a connection error or 502, 503, 504, 529 before the first
            byte; none after it.
        on_disconnect: what to do with the upstream when the client disconnects: ``drain`` reads
            to the end, ``cancel`` stops it; both charge.
        wait_s: how long a call waits for open reservations.
    """

    port: int = declared(PORT_SETTINGS["proxy"])
    proxy_url: str = declared(URL_SETTINGS["proxy"])
    hosts: tuple[str, ...] = declared(HOSTS)
    metrics_path: str = declared(METRICS_PATH)
    home: Path = declared(HOME)
    ledger_url: str = declared(LEDGER_URL)
    admin_token: str = declared(credentials.ADMIN_TOKEN)
    prompts: bool = declared(PROMPTS)
    upstreams: tuple[Upstream, ...] = derived(
        lambda environ: _upstreams(UPSTREAMS.read(environ).get("upstreams", {}), environ)
    )
    aliases: Mapping[str, str] = derived(
        lambda environ: _aliases(UPSTREAMS.read(environ).get("aliases", {}))
    )
    prices: Path | None = setting(
        "TELEMETRY_PRICES", PATH, None, "file of prices that add to or override the price list"
    )
    connect_timeout_s: float = setting(
        "TELEMETRY_PROXY_CONNECT_TIMEOUT",
        SECONDS,
        5.0,
        "timeout for connecting to an upstream, in seconds",
    )
    read_timeout_s: float = setting(
        "TELEMETRY_PROXY_READ_TIMEOUT",
        SECONDS,
        300.0,
        "maximum seconds of silence in an upstream's stream",
    )
    total_timeout_s: float = setting(
        "TELEMETRY_PROXY_TOTAL_TIMEOUT",
        SECONDS,
        1800.0,
        "maximum seconds of a call, retries and fallbacks included",
    )
    retries: int = setting(
        "TELEMETRY_PROXY_RETRIES",
        whole_number(0, 10),
        1,
        "maximum retries before the first byte of an answer",
    )
    on_disconnect: OnDisconnect = setting(
        "TELEMETRY_PROXY_ON_DISCONNECT",
        choice("drain", "cancel"),
        "drain",
        "what to do with an upstream's stream when the client disconnects: drain or cancel",
    )
    drain_limit_s: float = setting(
        "TELEMETRY_PROXY_DRAIN_LIMIT", SECONDS, 60.0, "maximum seconds of draining a stream"
    )
    max_body_bytes: int = setting(
        "TELEMETRY_PROXY_MAX_BODY",
        whole_number(1024, 1 << 30),
        32 * 1024 * 1024,  # Anthropic's own limit
        "maximum size of a request body, in bytes",
    )
    max_output_tokens: int = setting(
        "TELEMETRY_PROXY_MAX_OUTPUT_TOKENS",
        whole_number(1, 10_000_000),
        16_384,
        "output tokens to reserve for a request that sets no maximum",
    )
    wait_s: float = 2.0

    def upstream(self, name: str) -> Upstream | None:
        """Return the upstream of this name, or None."""
        return next((u for u in self.upstreams if u.name == name), None)

    def route(self, wire: str, model: str) -> Upstream | None:
        """Return the upstream for a model's calls, None if no upstream serves it."""
        return next((u for u in self.upstreams if u.wire == wire and u.serves(model)), None)


def _upstreams(table: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Upstream, ...]:
    """Return the upstreams of the file in its order, then each provider's own as the environment
    has it, unless the file names it.
    """
    found = [_from_table(name, spec) for name, spec in table.items()]
    found = [replace(one, key=environ.get(one.key_env, "")) for one in found]
    named = {upstream.name for upstream in found}
    found += [_own(wire, environ) for wire in WIRES if wire.name not in named]
    names = {upstream.name: upstream for upstream in found}
    for upstream in found:
        other = names.get(upstream.fallback)
        if upstream.fallback and (other is None or other.wire != upstream.wire):
            raise _bad(
                upstream.name, f"fallback {upstream.fallback!r} is not of wire {upstream.wire}"
            )
    return tuple(found)


def provider_settings(wire: Wire) -> tuple[Setting[str], Setting[str]]:
    """Address and API key of the provider that a wire is named for."""
    return (
        Setting(wire.url_env, BASE_URL, wire.url, f"address of the provider `{wire.name}`"),
        Setting(wire.key_env, SECRET, "", f"API key of the provider `{wire.name}`"),
    )


def _own(wire: Wire, environ: Mapping[str, str]) -> Upstream:
    """The upstream of the provider that a wire is named for."""
    url, key = provider_settings(wire)
    return Upstream(
        name=wire.name,
        wire=wire.name,
        url=url.read(environ),
        key=key.read(environ),
        key_env=wire.key_env,
        prices=wire.name,
    )


def _bad(name: str, what: str) -> TelemetryError:
    return TelemetryError(
        f"TELEMETRY_PROXY_UPSTREAMS: upstreams.{name}: {what}",
        remedy='e.g. [upstreams.ollama] wire = "openai", url = "http://127.0.0.1:11434/v1", '
        'models = ["llama*"]',
        exit_code=78,
    )


def _from_table(name: str, spec: Any) -> Upstream:
    if not isinstance(spec, dict):
        raise _bad(name, "is not a table")
    unknown = sorted(set(spec) - _UPSTREAM_KEYS)
    if unknown:
        raise _bad(name, f"unknown key {unknown[0]!r}")
    wire = spec.get("wire")
    wires = [known.name for known in WIRES]
    if wire not in wires:
        raise _bad(name, "wire must be " + " or ".join(f'"{known}"' for known in wires))
    models = spec.get("models", ["*"])
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise _bad(name, "models must be a list of names or globs")
    key_env = str(spec.get("key_env", ""))
    return Upstream(
        name=name,
        wire=wire,
        url=_base_of(name, str(spec.get("url", ""))),
        key_env=key_env,
        models=tuple(models),
        prices=str(spec.get("prices", "")),
        fallback=str(spec.get("fallback", "")),
    )


def _base_of(name: str, url: str) -> str:
    try:
        return _base(url)
    except ValueError:
        raise ConfigError(f"upstreams.{name}.url", redact(url), BASE_URL.expected) from None


def _aliases(table: Any) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise TelemetryError(
            "TELEMETRY_PROXY_UPSTREAMS: aliases must be a table of model names",
            remedy='e.g. [aliases] fast = "claude-haiku-4-5"',
            exit_code=78,
        )
    return dict(table)
