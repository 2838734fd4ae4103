"""The proxy's settings, read once from the environment and an optional file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from telemetry.errors import ConfigError, TelemetryError
from telemetry.services.proxy.upstream.wires import WIRES, Wire
from telemetry.settings import env as env_values
from telemetry.settings.stack import HOME, PORT_SETTINGS

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
        """Whether it needs a key: true unless it is on this machine."""
        host = urlsplit(self.url).hostname or ""
        return not (host in ("localhost", "::1") or host.startswith("127."))

    def serves(self, model: str) -> bool:
        """Whether it serves ``model``."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


@dataclass(frozen=True)
class Settings:
    """The proxy's settings.

    Args:
        port: on 127.0.0.1.
        home: the state folder.
        ledger_url: sqlite:///… or postgresql://….
        admin_token: for the admin API; ``""`` switches it off.
        upstreams: in the order they are tried for a model.
        aliases: alternative names of models.
        prices: file that overrides prices, or None.
        connect_timeout_s: to reach an upstream.
        read_timeout_s: longest silence of an upstream; an answer in one piece, silent until
            its end, has the call's whole time.
        total_timeout_s: longest call, with retries and fallbacks; its reservation expires a
            minute later.
        retries: further tries on a connection error or 502, 503, 504, 529 before the first
            byte; none after it.
        on_disconnect: what to do with the upstream when the client disconnects: ``drain`` reads
            to the end, ``cancel`` stops it; both charge.
        drain_limit_s: the longest time to drain.
        max_body_bytes: largest request.
        max_output_tokens: assumed if a request names no maximum.
        wait_s: how long a call waits for open reservations.
    """

    port: int
    home: Path
    ledger_url: str
    admin_token: str = field(repr=False)
    upstreams: tuple[Upstream, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    prices: Path | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 300.0
    total_timeout_s: float = 1800.0
    retries: int = 1
    on_disconnect: OnDisconnect = "drain"
    drain_limit_s: float = 60.0
    max_body_bytes: int = 32 * 1024 * 1024  # Anthropic's own limit
    max_output_tokens: int = 16_384
    wait_s: float = 2.0

    @classmethod
    def from_env(cls, environ: Mapping[str, str], *, admin_token: str | None = None) -> Settings:
        """Read the environment.

        Args:
            admin_token: taken instead of TELEMETRY_ADMIN_TOKEN.

        Raises:
            ConfigError: a variable can't be used.
            TelemetryError: the file of upstreams can't be used.
        """
        home = HOME.read(environ)
        table = _table(environ.get("TELEMETRY_PROXY_UPSTREAMS", ""))
        on_disconnect = environ.get("TELEMETRY_PROXY_ON_DISCONNECT", "drain")
        if on_disconnect not in ("drain", "cancel"):
            raise ConfigError("TELEMETRY_PROXY_ON_DISCONNECT", on_disconnect, "drain or cancel")
        prices = environ.get("TELEMETRY_PRICES", "")
        return cls(
            port=PORT_SETTINGS["proxy"].read(environ),
            home=home,
            ledger_url=environ.get("TELEMETRY_LEDGER_URL") or f"sqlite:///{home / 'ledger.db'}",
            admin_token=environ.get("TELEMETRY_ADMIN_TOKEN", "")
            if admin_token is None
            else admin_token,
            upstreams=_upstreams(table.get("upstreams", {}), environ),
            aliases=_aliases(table.get("aliases", {})),
            prices=Path(prices).expanduser() if prices else None,
            connect_timeout_s=_number(environ, "TELEMETRY_PROXY_CONNECT_TIMEOUT", 5.0),
            read_timeout_s=_number(environ, "TELEMETRY_PROXY_READ_TIMEOUT", 300.0),
            total_timeout_s=_number(environ, "TELEMETRY_PROXY_TOTAL_TIMEOUT", 1800.0),
            retries=env_values.integer(environ, "TELEMETRY_PROXY_RETRIES", 1, 0, 10),
            on_disconnect="cancel" if on_disconnect == "cancel" else "drain",
            drain_limit_s=_number(environ, "TELEMETRY_PROXY_DRAIN_LIMIT", 60.0),
            max_body_bytes=env_values.integer(
                environ, "TELEMETRY_PROXY_MAX_BODY", 32 * 1024 * 1024, 1024, 1 << 30
            ),
            max_output_tokens=env_values.integer(
                environ, "TELEMETRY_PROXY_MAX_OUTPUT_TOKENS", 16_384, 1, 10_000_000
            ),
        )

    def upstream(self, name: str) -> Upstream | None:
        """Return the upstream of this name, None if there is none."""
        return next((u for u in self.upstreams if u.name == name), None)

    def route(self, wire: str, model: str) -> Upstream | None:
        """Return the upstream for a model's calls, None if no upstream serves it."""
        return next((u for u in self.upstreams if u.wire == wire and u.serves(model)), None)


def _number(environ: Mapping[str, str], key: str, default: float) -> float:
    text = environ.get(key, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise ConfigError(key, text, "a number of seconds above 0")
    return value


def _table(path: str) -> dict[str, Any]:
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).expanduser().read_text())
    except (OSError, ValueError) as error:
        raise TelemetryError(
            f"TELEMETRY_PROXY_UPSTREAMS: {path} can't be read: {error}",
            remedy="name a TOML file with [upstreams.NAME] tables, or unset the variable",
            exit_code=78,
        ) from error


def _upstreams(table: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Upstream, ...]:
    """Return the upstreams of the file in its order, then each provider's own as the environment
    has it, unless the file names it.
    """
    found = [_from_table(name, spec, environ) for name, spec in table.items()]
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


def _own(wire: Wire, environ: Mapping[str, str]) -> Upstream:
    """The upstream of the provider that a wire is named for."""
    return Upstream(
        name=wire.name,
        wire=wire.name,
        url=_base(wire.url_env, environ.get(wire.url_env, "") or wire.url),
        key=environ.get(wire.key_env, ""),
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


def _from_table(name: str, spec: Any, environ: Mapping[str, str]) -> Upstream:
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
        url=_base(f"upstreams.{name}.url", str(spec.get("url", ""))),
        key=environ.get(key_env, "") if key_env else "",
        key_env=key_env,
        models=tuple(models),
        prices=str(spec.get("prices", "")),
        fallback=str(spec.get("fallback", "")),
    )


def _base(key: str, url: str) -> str:
    """Return a base address without a slash at its end, with ``/v1`` if it names no path."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ConfigError(key, url, "an address such as http://127.0.0.1:11434/v1")
    return url.rstrip("/") if parts.path.strip("/") else url.rstrip("/") + "/v1"


def _aliases(table: Any) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise TelemetryError(
            "TELEMETRY_PROXY_UPSTREAMS: aliases must be a table of model names",
            remedy='e.g. [aliases] fast = "claude-haiku-4-5"',
            exit_code=78,
        )
    return dict(table)
