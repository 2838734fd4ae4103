"""The API without Docker: access, error replies, and what still works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry import testing
from telemetry.services.platform.state.observed import ContainerState
from telemetry.system import docker_engine
from tests.platform.conftest import ADMIN, Running, Start

ROUTES = [
    ("GET", "/api/containers"),
    ("POST", "/api/containers"),
    ("GET", "/api/containers/ann"),
    ("DELETE", "/api/containers/ann"),
    ("POST", "/api/containers/ann/start"),
    ("POST", "/api/containers/ann/stop"),
    ("POST", "/api/containers/ann/restart"),
    ("GET", "/api/containers/ann/logs"),
    ("GET", "/admin/dashboard"),
]


def said(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def test_every_route_needs_the_token(absent: Running) -> None:
    for method, path in ROUTES:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic YTpi"}):
            response = absent.ask(method, path, headers=headers)
            assert response.status_code == 401, (method, path)
            assert "TELEMETRY_ADMIN_TOKEN" in response.json()["error"]["remedy"]


def test_every_route_refuses_other_origins(absent: Running) -> None:
    for method, path in ROUTES:
        for origin in ("http://evil.example", "null"):
            response = absent.ask(method, path, headers={**ADMIN, "origin": origin})
            assert response.status_code == 403, (method, path)


def test_health_is_503_if_docker_should_answer(absent: Running) -> None:
    response = httpx.get(f"{absent.url}/health")
    assert response.status_code == 503
    body = response.json()
    assert body["status"] == "error"
    assert "no Docker engine answers at unix://" in body["docker"]


def test_machine_without_docker_is_healthy_with_a_note(
    run_platform: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    socket = tmp_path / "docker.sock"
    monkeypatch.setattr(docker_engine, "SOCKET", str(socket))
    with run_platform(DOCKER_HOST="") as platform:
        response = httpx.get(f"{platform.url}/health")
        assert response.status_code == 200
        assert response.json() == {
            "status": "ok",
            "note": "no Docker here: containers are not watched; start Docker, or set DOCKER_HOST",
        }
        # An engine that should answer is a fault: its socket exists, or containers are known.
        socket.touch()
        assert httpx.get(f"{platform.url}/health").status_code == 503
        socket.unlink()
        platform.platform.store.started("ann", "0123")
        response = httpx.get(f"{platform.url}/health")
        assert response.status_code == 503
        assert "no Docker engine answers at unix://" in response.json()["docker"]


def test_provisioning_without_docker_is_refused_and_leaves_nothing(
    absent: Running, recorded: testing.Recorded
) -> None:
    response = absent.provision("ann")
    assert said(response)[0] == 503
    assert "no Docker engine answers" in said(response)[1]
    assert "start Docker" in response.json()["error"]["remedy"]
    assert absent.ask("GET", "/api/containers").json() == {"containers": []}
    assert absent.keys("ann") == []
    name = "platform_provision_duration_seconds"
    assert recorded.value(name, outcome="error") == 1
    assert recorded.value(name, outcome="ok") is None


def test_known_container_without_docker_is_unknown(absent: Running) -> None:
    store = absent.platform.store
    store.begin("ann", {"image": "busybox:stable", "env": {"SECRET": "hush"}})
    store.change("ann", phase="made", wanted=True, container_id="c1")
    found = absent.get("ann")
    assert (found["state"], found["wanted"], found["up"]) == ("unknown", True, False)
    assert found["image"] == "busybox:stable"
    assert found["spec"]["env"] == ["SECRET"], "names only"
    for method, path in (
        ("POST", "/api/containers/ann/stop"),
        ("DELETE", "/api/containers/ann"),
        ("GET", "/api/containers/ann/logs"),
    ):
        assert absent.ask(method, path).status_code == 503
    # It will be removed as soon as Docker answers.
    assert absent.get("ann")["phase"] == "removing"


def test_paused_container_is_up(absent: Running) -> None:
    """Like its series: somebody paused it on purpose."""
    observed, store = absent.platform.observed, absent.platform.store
    for state, up in (("running", True), ("paused", True), ("restarting", False), ("dead", False)):
        store.started(state, "c1")
        observed.update(ContainerState(state, "c1", state=state), asked_at=1.0)
        found = absent.get(state)
        assert (found["state"], found["up"]) == (state, up)
        assert not {"pid", "host_network"} & set(found)


def test_bad_body_is_refused_with_the_reason(absent: Running) -> None:
    for content, status, message in (
        (b"", 400, "the body is not JSON"),
        (b'{"handle": ', 400, "the body is not JSON"),
        (b"\xff\xfe", 400, "the body is not JSON"),
        (b"[]", 400, "the body is not a JSON object"),
        (b'{"handle": "ann", "image": "x", "sudo": 1}', 400, "unknown fields: sudo"),
        (b'{"handle": "ann/..", "image": "x"}', 400, "handle 'ann/..'"),
        (b'{"pad": "' + b"x" * (1 << 20) + b'"}', 413, "larger than 1048576 bytes"),
    ):
        response = httpx.post(f"{absent.url}/api/containers", content=content, headers=ADMIN)
        assert said(response)[0] == status
        assert message in said(response)[1]


def test_unknown_handle_is_404(absent: Running) -> None:
    for method, path in (route for route in ROUTES if "ann" in route[1]):
        response = absent.ask(method, path)
        assert said(response) == (404, "no container has the handle ann")
        malformed = absent.ask(method, path.replace("ann", "-ann"))
        assert malformed.status_code == 400


def test_invalid_tail_is_refused(absent: Running) -> None:
    for tail in ("x", "-1", "1.5", "100001", "²"):
        response = absent.ask("GET", "/api/containers/ann/logs", params={"tail": tail})
        assert said(response)[0] == 400


def test_taken_handle_is_refused(absent: Running) -> None:
    absent.platform.store.started("ann", "c1")
    assert said(absent.provision("ann")) == (409, "handle ann has a container already")


def test_answers_contain_no_token_and_no_key(absent: Running) -> None:
    store = absent.platform.store
    store.begin("ann", {"image": "x"})
    shown: Any = [absent.get("ann"), absent.ask("GET", "/admin/dashboard").json()]
    assert '"key' not in json.dumps(shown)
    assert absent.platform.settings.otlp_token not in json.dumps(shown)
