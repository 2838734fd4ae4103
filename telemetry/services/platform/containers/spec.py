"""Parse and check the body of ``POST /api/containers``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from telemetry.services.http import HTTPError
from telemetry.services.platform.settings import (
    CAPABILITY,
    MAX_CPUS,
    MAX_MEMORY_BYTES,
    MAX_PIDS,
    MIN_MEMORY_BYTES,
    PIDS_LIMIT,
    Settings,
)

HANDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A name or a number, and maybe a group; what it means depends on the image.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?")
RESTART_POLICIES = ("no", "on-failure", "always", "unless-stopped")
# These identify the container's owner.
RESERVED = ("TELEMETRY_HANDLE",)


@dataclass(frozen=True)
class Volume:
    """A folder of this machine, mounted in the container.

    Args:
        source: the folder on this machine, within TELEMETRY_PLATFORM_VOLUMES.
        target: absolute path in the container.
        read_only: whether it is mounted read-only.
    """

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class HealthCheck:
    """Docker's health check of a container.

    Args:
        command: run in the container; exit code 0 is healthy.
        interval_s: seconds between checks.
        timeout_s: seconds after which a check has failed.
        retries: consecutive failures until the container is unhealthy.
        start_period_s: seconds after the start in which failures don't count.
    """

    command: tuple[str, ...]
    interval_s: float = 30
    timeout_s: float = 30
    retries: int = 3
    start_period_s: float = 0


@dataclass(frozen=True)
class Spec:
    """A requested container.

    Args:
        handle: 1 to 63 letters, digits, or . _ -; the first is a letter or digit.
        image: as for ``docker run``; pulled if it is missing.
        command: replaces the image's command; empty for the image's own.
        env: environment, in addition to what the platform sets.
        cpus: cores it may use, such as 0.5; None for no limit.
        memory_limit_bytes: memory it may use, at least 6 MiB; None for no limit.
        pids_limit: processes and threads it may have.
        capabilities: Linux capabilities, without ``CAP_``; it has no others.
        user: user and maybe group of its programs, such as ``1000:1000``; "" for the image's own.
        read_only: whether its root file system is read-only, with a ``/tmp`` in memory.
        daily_budget_usd: what it may spend at the proxy in a UTC day; None for the budget that
            its proxy user has, or the setting's if that is new.
        volumes: folders of this machine to mount.
        health_check: None for the image's own.
        restart_policy: Docker's: no, on-failure, always, unless-stopped.
    """

    handle: str
    image: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None
    cpus: float | None = None
    memory_limit_bytes: int | None = None
    pids_limit: int = PIDS_LIMIT
    capabilities: tuple[str, ...] = ()
    user: str = ""
    read_only: bool = False
    daily_budget_usd: float | None = None
    volumes: tuple[Volume, ...] = ()
    health_check: HealthCheck | None = None
    restart_policy: str = "no"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_handle(value: Any) -> str:
    """Return ``value`` if it is a valid handle.

    Raises:
        HTTPError: it is not one.
    """
    if not isinstance(value, str) or not HANDLE.fullmatch(value):
        raise HTTPError(
            400,
            f"handle {value!r} is invalid",
            "use 1 to 63 letters, digits, or . _ -; the first must be a letter or digit",
        )
    return value


def parse(body: Any, settings: Settings) -> Spec:
    """Parse a request body.

    Args:
        body: decoded JSON.
        settings: what may be mounted and added, and the limits if the request names none.

    Raises:
        HTTPError: a field is missing, unknown or invalid, or a folder or capability is not
            allowed.
    """
    body = _fields(body, "the body", Spec.__dataclass_fields__)
    for name in ("handle", "image"):
        if name not in body:
            raise HTTPError(
                400, f"{name} is missing", 'send {"handle": "ann", "image": "name:tag"}'
            )
    return Spec(
        handle=check_handle(body["handle"]),
        image=_text(body["image"], "image"),
        command=_texts(body.get("command") or [], "command"),
        env=_env(body.get("env") or {}),
        cpus=_number(body.get("cpus"), "cpus", 0.01, MAX_CPUS) or settings.cpus or None,
        memory_limit_bytes=_whole(
            body.get("memory_limit_bytes"), "memory_limit_bytes", MIN_MEMORY_BYTES, MAX_MEMORY_BYTES
        )
        or settings.memory_limit_bytes
        or None,
        pids_limit=_whole(body.get("pids_limit"), "pids_limit", 1, MAX_PIDS) or settings.pids_limit,
        capabilities=_capabilities(body.get("capabilities") or [], settings.capabilities),
        user=_user(body.get("user")),
        read_only=_flag(body.get("read_only", False), "read_only"),
        daily_budget_usd=_budget(body.get("daily_budget_usd"), settings.keys),
        volumes=tuple(
            _volume(each, settings.volumes) for each in _list(body.get("volumes"), "volumes")
        ),
        health_check=_health_check(body.get("health_check")),
        restart_policy=_choice(body.get("restart_policy") or "no"),
    )


def _capabilities(value: Any, allowed: tuple[str, ...]) -> tuple[str, ...]:
    given = _texts(value, "capabilities", ["CHOWN", "SETUID"])
    for name in given:
        if not CAPABILITY.fullmatch(name) or name.startswith("CAP_"):
            raise HTTPError(
                400,
                f"capabilities: {name!r} is not a capability's name",
                "write it in capitals and without CAP_, such as NET_BIND_SERVICE",
            )
        if name not in allowed:
            raise HTTPError(
                403,
                f"capabilities: {name} may not be added (allowed: {' '.join(allowed) or 'none'})",
                "add it to TELEMETRY_PLATFORM_CAPABILITIES and restart the platform",
            )
    return tuple(dict.fromkeys(given))


def _user(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not _USER.fullmatch(value):
        raise HTTPError(400, f"user {value!r} is invalid", 'such as "1000", "app" or "1000:1000"')
    return value


def _budget(value: Any, has_keys: bool) -> float | None:
    found = _number(value, "daily_budget_usd", 0, 1e9)
    if found is not None and not has_keys:
        raise HTTPError(
            400,
            "daily_budget_usd: this platform's containers have no key at the proxy",
            "leave it out, or set TELEMETRY_PLATFORM_KEYS=true",
        )
    return found


def _volume(given: Any, allowed: tuple[Path, ...]) -> Volume:
    given = _fields(given, "a volume", Volume.__dataclass_fields__)
    source, target = given.get("source"), given.get("target")
    if not isinstance(source, str) or not Path(source).is_absolute():
        raise HTTPError(400, f"volumes: source {source!r} is not an absolute path of this machine")
    if not isinstance(target, str) or not PurePosixPath(target).is_absolute() or target == "/":
        raise HTTPError(400, f"volumes: target {target!r} is not an absolute path in the container")
    # Resolve links, or one within an allowed folder could lead anywhere.
    real = Path(source).resolve()
    if not any(real.is_relative_to(folder.resolve()) for folder in allowed):
        listed = ", ".join(map(str, allowed)) or "none"
        raise HTTPError(
            403,
            f"volumes: {source} may not be mounted (allowed: {listed})",
            "add its folder to TELEMETRY_PLATFORM_VOLUMES and restart the platform",
        )
    if not real.is_dir():
        raise HTTPError(400, f"volumes: there is no folder {source}", "create it first")
    return Volume(str(real), target, _flag(given.get("read_only", False), "volumes: read_only"))


def _health_check(given: Any) -> HealthCheck | None:
    if given is None:
        return None
    given = _fields(given, "health_check", HealthCheck.__dataclass_fields__)
    command = _texts(given.get("command", []), "health_check: command")
    if not command:
        raise HTTPError(400, "health_check: command is missing", 'such as ["test", "-e", "/ready"]')

    def seconds(name: str, default: float, low: float) -> float:
        found = _number(given.get(name), f"health_check: {name}", low, 86400)
        return default if found is None else found

    retries = _whole(given.get("retries"), "health_check: retries", 1, 1000)
    return HealthCheck(
        command=command,
        interval_s=seconds("interval_s", 30, 0.001),
        timeout_s=seconds("timeout_s", 30, 0.001),
        retries=3 if retries is None else retries,
        start_period_s=seconds("start_period_s", 0, 0),
    )


def _fields(given: Any, what: str, known: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise HTTPError(400, f"{what} is not a JSON object", f"its fields: {', '.join(known)}")
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise HTTPError(
            400, f"{what} has unknown fields: {', '.join(unknown)}", f"known: {', '.join(known)}"
        )
    return given


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise HTTPError(400, f"{name} is not a non-empty string")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise HTTPError(400, f"{name} is not a list")
    return value or []


def _texts(
    value: Any, name: str, example: Sequence[str] = ("sh", "-c", "echo hello")
) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and "\0" not in v for v in value):
        raise HTTPError(
            400, f"{name} is not a list of strings", f"such as {json.dumps(list(example))}"
        )
    return tuple(value)


def _env(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise HTTPError(400, "env is not an object of strings", 'such as {"LEVEL": "debug"}')
    for name, text in value.items():
        if not _ENV_NAME.fullmatch(name) or "\0" in text:
            raise HTTPError(400, f"env: {name!r} is not a valid environment variable")
        if name in RESERVED:
            raise HTTPError(400, f"env: {name} is set by the platform", "leave it out")
    return dict(value)


def _number(value: Any, name: str, low: float, high: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise HTTPError(400, f"{name}: {value!r} is not a number from {low} to {high}")
    return float(value)


def _whole(value: Any, name: str, low: int, high: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise HTTPError(400, f"{name}: {value!r} is not a whole number from {low} to {high}")
    return value


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise HTTPError(400, f"{name}: {value!r} is not true or false")
    return value


def _choice(value: Any) -> str:
    if value not in RESTART_POLICIES:
        raise HTTPError(
            400, f"restart_policy {value!r} is unknown", f"one of: {', '.join(RESTART_POLICIES)}"
        )
    return str(value)
