"""Docker's create options of a requested container, and its environment."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from docker.types import Healthcheck, LogConfig, Mount

from telemetry.services.platform.containers.spec import HealthCheck, Spec
from telemetry.services.platform.proxy_keys import Key
from telemetry.services.platform.relay import tokens
from telemetry.services.platform.settings import Settings
from telemetry.services.platform.state.desired import HANDLE_LABEL, LOGS_LABEL, PLATFORM_LABEL

NS = 1_000_000_000
# A container's output that Docker keeps; the Collector has read it long before it is dropped.
LOG_OPTIONS = {"max-size": "20m", "max-file": "3"}
TMP = "/tmp"


def container_name(handle: str) -> str:
    """Return the Docker name of a handle's container."""
    return f"telemetry-{handle}"


def arguments(
    spec: Spec, settings: Settings, platform_id: str, address: str, key: Key | None
) -> dict[str, Any]:
    """Return the arguments for ``docker.DockerClient.containers.create``.

    Args:
        spec: the requested container.
        settings: the platform's settings.
        platform_id: id of the platform that owns it.
        address: host and port of the relay, as the container reaches it.
        key: its key at the proxy, None if it gets none.
    """
    mounts_tmp = any(PurePosixPath(each.target) == PurePosixPath(TMP) for each in spec.volumes)
    return {
        "image": spec.image,
        "command": list(spec.command) or None,
        "name": container_name(spec.handle),
        "environment": environment(spec, settings, address, key),
        "labels": {HANDLE_LABEL: spec.handle, PLATFORM_LABEL: platform_id},
        "network": settings.network,
        "nano_cpus": None if spec.cpus is None else int(spec.cpus * NS),
        "mem_limit": spec.memory_limit_bytes,
        # Without swap: otherwise the limit is twice the requested one.
        "memswap_limit": spec.memory_limit_bytes,
        "pids_limit": spec.pids_limit,
        "cap_drop": ["ALL"],
        "cap_add": list(spec.capabilities),
        "user": spec.user or None,
        "read_only": spec.read_only,
        "tmpfs": {TMP: ""} if spec.read_only and not mounts_tmp else None,
        # No program of an image becomes root by its setuid bit.
        "security_opt": ["no-new-privileges"],
        "mounts": [
            Mount(volume.target, volume.source, type="bind", read_only=volume.read_only)
            for volume in spec.volumes
        ],
        "healthcheck": _health_check(spec.health_check),
        "restart_policy": {"Name": spec.restart_policy},
        # The Collector takes the handle from what the driver writes with each line.
        "log_config": LogConfig(
            type=LogConfig.types.JSON,
            config={"labels": f"{HANDLE_LABEL},{LOGS_LABEL}", **LOG_OPTIONS},
        ),
        "detach": True,
    }


def environment(spec: Spec, settings: Settings, address: str, key: Key | None) -> dict[str, str]:
    """Return the container's environment.

    Caller-supplied values win, except those that identify the owner.

    Args:
        spec: the requested container.
        settings: the platform's settings.
        address: host and port of the relay, as the container reaches it.
        key: its key at the proxy, None if it gets none.
    """
    given = dict(spec.env or {})
    attributes = [given.pop("OTEL_RESOURCE_ATTRIBUTES", ""), f"handle={spec.handle}"]
    token = tokens.issue(settings.otlp_token, spec.handle)
    ours = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}/otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        # https://opentelemetry.io/docs/specs/otel/protocol/exporter/: values are URL-encoded.
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={quote(f'Bearer {token}')}",
    }
    if key is not None:
        base = f"http://{address}/proxy"
        ours |= {
            "TELEMETRY_PROXY_URL": base,
            "TELEMETRY_PROXY_KEY": key.secret,
            # The providers' SDKs read these, and work without further configuration.
            "ANTHROPIC_BASE_URL": base,
            "ANTHROPIC_API_KEY": key.secret,
            "OPENAI_BASE_URL": f"{base}/v1",
            "OPENAI_API_KEY": key.secret,
        }
    return {
        **ours,
        **given,
        "OTEL_RESOURCE_ATTRIBUTES": ",".join(filter(None, attributes)),
        "TELEMETRY_HANDLE": spec.handle,
    }


def _health_check(check: HealthCheck | None) -> Healthcheck | None:
    return check and Healthcheck(
        test=["CMD", *check.command],
        interval=int(check.interval_s * NS),
        timeout=int(check.timeout_s * NS),
        retries=check.retries,
        start_period=int(check.start_period_s * NS),
    )
