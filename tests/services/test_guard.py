"""The guard of the three services: hosts, origins, the metrics page, in plain ASGI."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from telemetry import testing
from telemetry.services.guard import Guard
from telemetry.services.login import Access
from tests.fixtures.asgi import Exchange, call, exchange
from tests.fixtures.asgi import scope as make_scope

TOKEN = "metrics-secret"


@pytest.fixture
def recorded() -> Any:
    with testing.isolated() as found:
        yield found


async def _service(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": b"inside"})


@pytest.fixture
def service(recorded: testing.Recorded) -> Guard:
    return Guard(
        _service,
        hosts=["monitor.example", "[2001:db8::1]"],
        url="http://gateway:4000",
        origins=["https://pages.example"],
        has_pages=True,
        metrics_path="/metrics",
        metrics_access=Access(TOKEN, "TELEMETRY_ADMIN_TOKEN"),
    )


async def ask(
    service: Guard, path: str = "/", method: str = "GET", client: str = "127.0.0.1", **headers: str
) -> Exchange:
    sent = {"host": "127.0.0.1:4000", **headers}
    pairs = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in sent.items()]
    return await call(service, path, method, pairs, client=(client, 5), server=("192.0.2.9", 4000))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:4000",
        "localhost",
        "LocalHost:1",
        "localhost.",
        "[::1]",
        "[::1]:4000",
        "gateway:4000",
        "gateway",
        "monitor.example",
        "Monitor.Example:443",
        "[2001:db8::1]:80",
        "192.0.2.9",  # the address that the connection arrived at
    ],
)
async def test_known_host_is_served(service: Guard, host: str) -> None:
    for _ in range(2):  # the second time from the cache
        assert (await ask(service, host=host)).body == b"inside"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4000",
        "127.0.0.1.evil.example",
        "evil.example:127.0.0.1",
        "localhost:x",
        "localhost@evil.example",
        "192.0.2.10",
        "[::2]",
        "[::1",
        "::1",
        "gateway.evil.example",
        "127.0.0.1:4000, evil.example",
        "\xe9vil",
    ],
)
@pytest.mark.parametrize("path", ["/", "/metrics", "/health"])
async def test_unknown_host_is_refused_on_every_path(
    service: Guard, recorded: testing.Recorded, host: str, path: str
) -> None:
    refused = await ask(service, path, host=host)
    assert refused.status == 421
    error = json.loads(refused.body)["error"]
    assert "TELEMETRY_HOSTS" in error["remedy"]
    assert recorded.value("services_requests_refused_total", reason="host") == 1


async def test_request_with_no_host_or_two_is_refused(service: Guard) -> None:
    assert (await ask(service, host="")).status == 400
    for hosts in ([], [b"127.0.0.1", b"127.0.0.1"], [b"127.0.0.1", b"evil.example"]):
        headers = [(b"host", host) for host in hosts]
        sent = exchange()
        await service(make_scope("/") | {"headers": headers}, sent.receive, sent.send)
        assert sent.status == 400, hosts


async def test_port_is_any_and_cached_hosts_are_bounded(service: Guard) -> None:
    for port in range(1500):
        assert (await ask(service, host=f"localhost:{port}")).status == 200
    assert len(service._known) == 1000


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl, an SDK
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
        {"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors", "sec_fetch_dest": "empty"},
        {
            "sec_fetch_site": "cross-site",
            "sec_fetch_mode": "navigate",
            "sec_fetch_dest": "document",
        },
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
        {"origin": "http://127.0.0.1:4000", "sec_fetch_site": "same-origin"},
        {"origin": "https://127.0.0.1:4000"},  # behind a proxy that ends TLS
        {"origin": "https://pages.example", "sec_fetch_site": "cross-site"},
    ],
    ids=str,
)
async def test_own_pages_links_and_programs_are_served(
    service: Guard, headers: dict[str, str]
) -> None:
    assert (await ask(service, **headers)).body == b"inside"


FOREIGN = [
    {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "script"},
    {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors", "sec_fetch_dest": "empty"},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
    {"origin": "http://127.0.0.1:5000"},
    {"origin": "http://localhost:4000"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "https://pages.example.evil.example"},
    {"origin": "ftp://127.0.0.1:4000"},
    {"origin": "http://[", "sec_fetch_site": "same-origin"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
async def test_pages_of_other_origins_are_refused(
    service: Guard, recorded: testing.Recorded, headers: dict[str, str], method: str
) -> None:
    assert (await ask(service, "/health", method, **headers)).status == 403
    assert recorded.value("services_requests_refused_total", reason="origin") == 1


async def test_form_of_another_site_is_refused_though_it_navigates(service: Guard) -> None:
    navigation = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    refused = await ask(service, "/", "POST", sec_fetch_site="cross-site", **navigation)
    assert refused.status == 403


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("extension", [True, False])
async def test_websockets_are_refused_before_they_are_accepted(
    service: Guard, headers: dict[str, str], extension: bool
) -> None:
    pairs = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = make_scope("/ws", headers=[(b"host", b"127.0.0.1"), *pairs], type="websocket")
    scope["extensions"] = {"websocket.http.response": {}} if extension else {}
    sent = exchange()
    await service(scope, sent.receive, sent.send)
    if extension:
        assert sent.sent[0]["type"] == "websocket.http.response.start"
        assert sent.sent[0]["status"] == 403
    else:
        assert sent.sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "192.0.2.1", "peer"])
async def test_metrics_need_the_token(service: Guard, client: str) -> None:
    bare = await ask(service, "/metrics", client=client)
    assert bare.status == 200, "so that Prometheus sees that the service is up"
    assert all(line.startswith(b"#") for line in bare.body.splitlines())
    wrong = await ask(service, "/metrics", client=client, authorization="Bearer wrong")
    assert wrong.status == 401
    right = await ask(service, "/metrics", client=client, authorization=f"Bearer {TOKEN}")
    assert right.body == b"inside"
    assert (await ask(service, "/health", client=client)).body == b"inside"


async def test_security_headers_are_added_once_and_keep_the_services_own(service: Guard) -> None:
    answer = await ask(service)
    names = [name for name, _ in answer.sent[0]["headers"]]
    assert len(names) == len(set(names))
    assert answer.headers[b"x-own"] == b"1"
    assert b"frame-ancestors 'none'" in answer.headers[b"content-security-policy"]
    refused = await ask(service, host="evil.example")
    assert b"content-security-policy" in refused.headers


async def test_websocket_at_the_path_of_the_metrics_is_the_apps_to_refuse(service: Guard) -> None:
    scope = make_scope("/metrics", headers=[(b"host", b"127.0.0.1")], type="websocket")
    sent = exchange()
    await service(scope, sent.receive, sent.send)
    assert sent.sent[-1]["body"] == b"inside"
