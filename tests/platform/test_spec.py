"""The fields of a request, and the error of each invalid one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from telemetry.services.http import HTTPError
from telemetry.services.platform.containers.spec import HealthCheck, Spec, Volume, parse
from telemetry.services.platform.settings import Settings

LEAST = {"handle": "ann", "image": "busybox:stable"}


def allowing(*folders: Path) -> Settings:
    """Settings by which these folders may be mounted."""
    return Settings(volumes=folders)


def test_all_fields_are_parsed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    body = {
        **LEAST,
        "command": ["sleep", "9"],
        "env": {"LEVEL": "debug"},
        "cpus": 0.5,
        "memory_limit_bytes": 64 << 20,
        "pids_limit": 64,
        "capabilities": ["CHOWN", "SETUID", "CHOWN"],
        "user": "1000:app",
        "read_only": True,
        "daily_budget_usd": 0.5,
        "volumes": [{"source": str(data), "target": "/data", "read_only": True}],
        "health_check": {"command": ["true"], "interval_s": 1, "retries": 2},
        "restart_policy": "on-failure",
    }
    assert parse(body, allowing(tmp_path)) == Spec(
        handle="ann",
        image="busybox:stable",
        command=("sleep", "9"),
        env={"LEVEL": "debug"},
        cpus=0.5,
        memory_limit_bytes=64 << 20,
        pids_limit=64,
        capabilities=("CHOWN", "SETUID"),
        user="1000:app",
        read_only=True,
        daily_budget_usd=0.5,
        volumes=(Volume(str(data), "/data", True),),
        health_check=HealthCheck(("true",), interval_s=1, retries=2),
        restart_policy="on-failure",
    )


def test_limits_that_a_request_does_not_name_come_from_the_settings() -> None:
    """The defaults are safe ones; 0 is no limit."""
    default = Spec("ann", "busybox:stable", env={}, cpus=1, memory_limit_bytes=512 << 20)
    assert parse(LEAST, Settings()) == default
    assert parse({**LEAST, "cpus": None, "memory_limit_bytes": None}, Settings()) == default
    found = parse(LEAST, Settings(cpus=0, memory_limit_bytes=0, pids_limit=9))
    assert found == Spec("ann", "busybox:stable", env={}, pids_limit=9)


def test_capability_outside_the_settings_is_refused() -> None:
    body = {**LEAST, "capabilities": ["SYS_ADMIN"]}
    with pytest.raises(HTTPError, match="SYS_ADMIN may not be added") as caught:
        parse(body, Settings())
    assert caught.value.status == 403
    assert "TELEMETRY_PLATFORM_CAPABILITIES" in caught.value.remedy
    assert parse(body, Settings(capabilities=("SYS_ADMIN",))).capabilities == ("SYS_ADMIN",)


def test_budget_without_a_proxy_is_refused() -> None:
    with pytest.raises(HTTPError, match="no key at the proxy") as caught:
        parse({**LEAST, "daily_budget_usd": 1}, Settings(keys=False))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"handle": "../etc"}, "handle '../etc'"),
        ({"handle": ""}, "handle ''"),
        ({"handle": "-ann"}, "handle '-ann'"),
        ({"handle": "a" * 64}, "is invalid"),
        ({"handle": "ann\n"}, "is invalid"),
        ({"handle": 7}, "handle 7"),
        ({"image": " "}, "image"),
        ({"image": None}, "image"),
        ({"command": "echo hello"}, "command is not a list"),
        ({"command": ["a\0b"]}, "command"),
        ({"env": ["A=b"]}, "env is not an object"),
        ({"env": {"A": 1}}, "env is not an object"),
        ({"env": {"A B": "x"}}, "'A B' is not a valid"),
        ({"env": {"TELEMETRY_HANDLE": "bob"}}, "TELEMETRY_HANDLE is set by the platform"),
        ({"cpus": 0}, "cpus: 0 is not"),
        ({"cpus": True}, "cpus: True is not"),
        ({"cpus": float("nan")}, "cpus: nan is not"),
        ({"memory_limit_bytes": 1024}, "memory_limit_bytes: 1024"),
        ({"memory_limit_bytes": 1e9}, "memory_limit_bytes"),
        ({"volumes": {}}, "volumes is not a list"),
        ({"volumes": ["/etc"]}, "a volume is not a JSON object"),
        ({"health_check": {}}, "command is missing"),
        ({"health_check": {"command": ["true"], "every": 1}}, "unknown fields: every"),
        ({"restart_policy": "forever"}, "restart_policy 'forever'"),
        ({"memory": 64}, "unknown fields: memory"),
        ({"pids_limit": 0}, "pids_limit: 0 is not"),
        ({"pids_limit": "64"}, "pids_limit: '64' is not"),
        ({"capabilities": "CHOWN"}, "capabilities is not a list"),
        ({"capabilities": ["CAP_CHOWN"]}, "'CAP_CHOWN' is not a capability's name"),
        ({"capabilities": ["ALL "]}, "'ALL ' is not a capability's name"),
        ({"user": 1000}, "user 1000 is invalid"),
        ({"user": "a b"}, "user 'a b' is invalid"),
        ({"user": "1:2:3"}, "user '1:2:3' is invalid"),
        ({"read_only": 1}, "read_only: 1 is not true or false"),
        ({"daily_budget_usd": -1}, "daily_budget_usd: -1 is not"),
    ],
)
def test_each_invalid_field_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(HTTPError) as caught:
        parse({**LEAST, **change}, allowing())
    assert caught.value.status == 400
    assert said in caught.value.message


@pytest.mark.parametrize("body", [[], None, "ann", {}, {"handle": "ann"}, {"image": "x"}])
def test_body_without_required_fields_is_refused(body: Any) -> None:
    with pytest.raises(HTTPError) as caught:
        parse(body, allowing())
    assert caught.value.status == 400


def _volume(source: Path | str, allowed: tuple[Path, ...]) -> Spec:
    body = {**LEAST, "volumes": [{"source": str(source), "target": "/data"}]}
    return parse(body, allowing(*allowed))


def test_folder_below_an_allowed_one_may_be_mounted(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert _volume(tmp_path / "a" / "b", (tmp_path / "a",)).volumes[0].read_only is False


def test_no_other_folder_may_be_mounted(tmp_path: Path) -> None:
    """By its name, by dots, by a link within an allowed folder, or with a similar name."""
    allowed = tmp_path / "a"
    allowed.mkdir()
    (tmp_path / "ab").mkdir()
    (allowed / "link").symlink_to("/etc")
    for source in ("/etc", allowed / ".." / "ab", allowed / "link", tmp_path / "ab"):
        with pytest.raises(HTTPError) as caught:
            _volume(source, (allowed,))
        assert caught.value.status == 403
        assert "TELEMETRY_PLATFORM_VOLUMES" in caught.value.remedy
    with pytest.raises(HTTPError) as caught:
        _volume(allowed, ())
    assert caught.value.status == 403


@pytest.mark.parametrize(
    "change", [{"source": "here"}, {"target": "there"}, {"target": "/"}, {"read_only": "yes"}]
)
def test_volume_needs_two_absolute_paths(tmp_path: Path, change: dict[str, Any]) -> None:
    volume = {"source": str(tmp_path), "target": "/data", **change}
    with pytest.raises(HTTPError) as caught:
        parse({**LEAST, "volumes": [volume]}, allowing(tmp_path))
    assert caught.value.status == 400


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HTTPError, match="there is no folder"):
        _volume(tmp_path / "nothing", (tmp_path,))
