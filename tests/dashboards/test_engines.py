"""Every query of every panel and rule on real stores: no query fails, and each returns what the
library sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from telemetry import catalog as c
from telemetry.alerting.render.prometheus import condition
from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from telemetry.dashboards import PANELS, Query, all_queries
from tests.dashboards import known_series, promql
from tests.dashboards.filler import Counts, counting
from tests.dashboards.stores import last_values, run_query
from tests.fixtures.stack import Stack

pytestmark = pytest.mark.stack

MIB = 2**20
# The name of a container's proxy user is its handle.
DOWN, WELL = "shown-1", "shown-2"
SERVICE, PROXY, PLATFORM = "shown-gateway", "shown-proxy", "shown-platform"
INSIDE = "shown-inside"
# Select containers and users, or services: both would select services in containers.
CHOSEN = {"handle": f"{DOWN}|{WELL}", "user_id": f"{DOWN}|{WELL}"}
SERVICES = {"service": f"{SERVICE}|{PROXY}|{PLATFORM}|prometheus"}
_HTTP = {"http.request.method": "GET", "http.route": "/items/{id}", "url.scheme": "http"}
_OK = {**_HTTP, "http.response.status_code": "200"}
_RECEIVED = {"http.route": "/ws", "network.io.direction": "receive"}
_FAILED = {**_HTTP, "http.response.status_code": "500", "error.type": "ValueError"}
_CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "shown-model",
}


def user(name: str, calls: int, usd: float, budget: float) -> Counts:
    """Return the counts that the proxy reports of a user."""
    whose = {"user_id": name, "model": "shown-model"}
    return [
        (c.PROXY_API_CALLS.name, {**whose, "status": "ok"}, calls),
        (c.PROXY_API_COST.name, whose, usd),
        (c.PROXY_API_TOKENS.name, {**whose, "kind": "input"}, 100 * calls),
        (c.PROXY_API_TOKENS.name, {**whose, "kind": "cache_read"}, 10 * calls),
        (c.PROXY_API_TOKENS.name, {**whose, "kind": "output"}, 20 * calls),
        (c.PROXY_API_TOKENS.name, {**whose, "kind": "reasoning"}, 5 * calls),
        (c.PROXY_QUOTA_REJECTIONS.name, {"user_id": name}, calls - 1),
        (c.PROXY_USER_COST_TODAY.name, {"user_id": name}, usd),
        (c.PROXY_USER_BUDGET.name, {"user_id": name}, budget),
    ]


PROXY_COUNTS: Counts = [
    *user(DOWN, 7, 0.123456789, 1.0),
    *user(WELL, 3, 1.5, 2.0),
    (c.PROXY_UNPRICED_CALLS.name, {"model": "shown-unpriced"}, 2),
    (c.PROXY_UPSTREAM_ERRORS.name, {"provider": "anthropic", "kind": "http_500"}, 1),
    (c.GEN_AI_CLIENT_TOKEN_USAGE.name, {**_CALL, "gen_ai.token.type": "input"}, [100, 110]),
    (c.GEN_AI_CLIENT_OPERATION_DURATION.name, _CALL, [0.5, 0.7]),
    (c.GEN_AI_SERVER_TIME_TO_FIRST_TOKEN.name, _CALL, [0.05]),
    (c.GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN.name, _CALL, [0.02]),
]


def container(handle: str, up: int, memory_mib: int, restarts: int) -> Counts:
    """Return the counts that the platform reports of a container with 200 MiB."""
    where = {"handle": handle}
    return [
        (c.PLATFORM_CONTAINER_UP.name, where, up),
        (c.PLATFORM_CONTAINER_HEALTHY.name, where, up),
        (c.PLATFORM_CONTAINER_CPU.name, where, 12.5),
        (c.PLATFORM_CONTAINER_MEMORY.name, where, memory_mib * MIB),
        (c.PLATFORM_CONTAINER_MEMORY_LIMIT.name, where, 200 * MIB),
        (c.PLATFORM_CONTAINER_NETWORK_RECEIVE.name, where, 4000),
        (c.PLATFORM_CONTAINER_NETWORK_TRANSMIT.name, where, 2000),
        (c.PLATFORM_CONTAINER_RESTARTS.name, where, restarts),
        (c.PLATFORM_CONTAINER_OOM_KILLS.name, where, restarts // 2),
    ]


PLATFORM_COUNTS: Counts = [
    *container(DOWN, 0, 190, 4),
    *container(WELL, 1, 50, 0),
    (c.PLATFORM_CONTAINERS_TOTAL.name, {"status": "running"}, 1),
    (c.PLATFORM_PROVISION_DURATION.name, {"outcome": "ok"}, [2, 3, 4]),
    (c.PLATFORM_PROVISION_DURATION.name, {"outcome": "error"}, [1]),
    (c.PLATFORM_DESTROY_DURATION.name, {"outcome": "ok"}, [1]),
    (c.PLATFORM_RELAY_CONNECTIONS.name, {}, 5),
    (c.PLATFORM_RELAY_CONNECTIONS_REFUSED.name, {"reason": "address"}, 12),
    (c.PLATFORM_RELAY_REFUSED.name, {"handle": WELL, "reason": "rate"}, 8),
    (c.PLATFORM_RELAY_DROPPED.name, {"handle": WELL}, 900),
]

GATEWAY_COUNTS: Counts = [
    (c.HTTP_SERVER_REQUEST_DURATION.name, _OK, [0.02] * 9),
    (c.HTTP_SERVER_REQUEST_DURATION.name, _FAILED, [0.3]),
    (c.HTTP_SERVER_ACTIVE_REQUESTS.name, {"http.request.method": "GET", "url.scheme": "http"}, 3),
    (c.HTTP_SERVER_REQUEST_BODY_SIZE.name, _OK, [100]),
    (c.HTTP_SERVER_RESPONSE_BODY_SIZE.name, _OK, [200]),
    (c.WEBSOCKET_SERVER_ACTIVE_CONNECTIONS.name, {"url.scheme": "http"}, 2),
    (c.WEBSOCKET_SERVER_CONNECTION_DURATION.name, {"http.route": "/ws"}, [20]),
    (c.WEBSOCKET_SERVER_MESSAGES.name, _RECEIVED, 5),
    (c.GATEWAY_HTTP_REQUESTS.name, {"method": "GET", "path": "/", "status": "200"}, 4),
    (c.GATEWAY_HTTP_REQUEST_DURATION.name, {"method": "GET", "path": "/"}, [0.02]),
    (c.GATEWAY_KERNEL_DISPATCH.name, {"source": "web", "status": "ok"}, 3),
    (c.GATEWAY_KERNEL_DISPATCH.name, {"source": "api", "status": "error"}, 1),
    (c.GATEWAY_KERNEL_DISPATCH_DURATION.name, {"source": "web"}, [2, 3, 4]),
    (c.GATEWAY_DISPATCH_QUEUE_DEPTH.name, {}, 6),
    (c.GATEWAY_WS_CONNECTIONS_ACTIVE.name, {}, 2),
    (c.GATEWAY_AI_COST.name, {"model": "shown-model"}, 0.25),
    (c.GATEWAY_AI_TOKENS.name, {"model": "shown-model", "direction": "input"}, 400),
    (c.GATEWAY_INTERACTION_LOG_FAILURES.name, {"reason": "OSError"}, 1),
    (c.GATEWAY_NOTIFICATIONS.name, {"status": "firing", "severity": "critical"}, 2),
    (c.GATEWAY_ALERTS_FIRING.name, {"severity": "critical"}, 1),
    (c.TELEMETRY_DROPPED.name, {"signal": "logs", "reason": "queue_full"}, 11),
]

INSIDE_COUNTS: Counts = [
    (c.HTTP_SERVER_REQUEST_DURATION.name, _OK, [0.02] * 2),
    (c.GATEWAY_KERNEL_DISPATCH_DURATION.name, {"source": "web"}, [2]),
]
# Process, its counts, and the handle of the container it runs in.
PROCESSES = (
    (PROXY, PROXY_COUNTS, ""),
    (PLATFORM, PLATFORM_COUNTS, ""),
    (SERVICE, GATEWAY_COUNTS, ""),
    (INSIDE, INSIDE_COUNTS, WELL),
)

# Scraped, or read from the host, every few seconds; a rate needs two samples.
TWICE = (
    "system_cpu_time_seconds_total",
    "loki_distributor_bytes_received_total",
    "prometheus_tsdb_head_samples_appended_total",
    "otelcol_exporter_sent_log_records",
    "otelcol_receiver_accepted_log_records",
)

# Empty without losses: these counters appear only with the first.
QUIET = {"pipeline.loki_discarded", "pipeline.notices"}


@pytest.fixture(scope="module")
def filled(stack: Stack) -> Iterator[Stack]:
    """The stack, with the counts of four running processes."""
    with ExitStack() as running:
        for service, counts, handle in PROCESSES:
            running.enter_context(counting(stack, service, counts, handle))
        stack.wait_query(f'http_server_request_duration_seconds_count{{handle="{WELL}"}}')
        stack.wait_logs(f'{{service_name="shown-inside", handle="{WELL}", level="error"}}')
        stack.wait_query("system_filesystem_usage_bytes")
        stack.wait_query(f'ALERTS{{alertname="ContainerDown",alertstate="firing",handle="{DOWN}"}}')
        for twice in TWICE:
            stack.wait_query(f"rate({twice}[120s])", timeout_s=60)
        yield stack


def _panel(name: str) -> list[Query]:
    chosen = SERVICES if name.startswith(("services", "gateway")) else CHOSEN
    return [query for query in all_queries(chosen) if query.panel == name]


def _number(stack: Stack, name: str, place: int = 0) -> float:
    [series] = run_query(stack, _panel(name)[place])
    return series.last


@pytest.mark.parametrize(
    ("variables", "filtered"),
    [({}, ""), (CHOSEN, "container|cost|annotation|variable"), (SERVICES, "services|gateway|logs")],
    ids=["all", "chosen", "services"],
)
def test_no_query_fails_and_no_panel_is_empty(
    filled: Stack, variables: dict[str, str], filtered: str
) -> None:
    shown: dict[str, int] = {}
    for query in all_queries(variables):
        shown[query.panel] = shown.get(query.panel, 0) + len(run_query(filled, query))
    empty = {name for name, n in shown.items() if not n and re.match(filtered, name)}
    assert {name for name in empty if not name.startswith("annotation:")} <= QUIET
    panels = {name for name in shown if ":" not in name}
    assert panels == set(PANELS) - {"overview.alerts"}  # which shows Grafana's own list


def test_components_have_the_known_series_and_labels(filled: Stack) -> None:
    missing, unlike = set(), {}
    for name, labels in known_series.COMPONENTS.items():
        found = filled.query(name)
        if not found:
            missing.add(name)
        elif any(labels - set(series["metric"]) for series in found):
            unlike[name] = labels - set(found[0]["metric"])
    # No alert fires, no line was refused; the labels of ALERTS depend on the alert.
    assert missing <= {"ALERTS", "loki_discarded_samples_total"}
    unlike.pop("ALERTS", None)
    assert unlike == {}


def test_no_rule_fails(filled: Stack) -> None:
    for rule in all_rules(Thresholds()):
        instant = Query("", rule.name, rule.source, condition(rule), True, 3600, 5)
        run_query(filled, instant)


def test_overview_shows_what_was_sent(filled: Stack) -> None:
    table = _panel("overview.containers")
    assert len(table) == 10
    answers = [last_values(run_query(filled, query), "handle") for query in table]
    assert [answer[DOWN] for answer in answers[:7]] == [0, 0, 12.5, 190 * MIB, 0.95, 4, 2]
    assert [answer[WELL] for answer in answers[:7]] == [1, 1, 12.5, 50 * MIB, 0.25, 0, 0]
    assert answers[9][DOWN] == 0.123456789
    assert _number(filled, "overview.containers_down") >= 1
    assert _number(filled, "overview.critical") >= 1
    assert _number(filled, "overview.provision") == pytest.approx(3 / 4)
    assert _number(filled, "overview.loss") >= 12


def test_container_detail_shows_the_selected_containers(filled: Stack) -> None:
    expected = {
        "state": 0,
        "health": 0,
        "cpu_now": 25,
        "memory_share": 0.95,
        "restarts_count": 4,
        "oom_count": 2,
        "cost_today": pytest.approx(1.623456789),
        "error_lines": 1,
    }
    assert {name: _number(filled, f"container.{name}") for name in expected} == expected
    [received, sent] = [
        last_values(run_query(filled, q), "handle") for q in _panel("container.network")
    ]
    assert received.keys() == sent.keys() == {DOWN, WELL}
    requests = run_query(filled, _panel("container.requests")[0])
    assert set(last_values(requests, "handle", "job")) == {(WELL, "shown-inside")}


def test_costs_are_exact(filled: Stack) -> None:
    # To the last digit of a double, in which the ledger's counters are sent.
    assert _number(filled, "cost.total") == pytest.approx(1.623456789, abs=1e-12)
    assert _number(filled, "cost.total_today") == pytest.approx(1.623456789, abs=1e-12)
    assert _number(filled, "cost.calls") == 10
    assert [_number(filled, "cost.tokens_total", n) for n in (0, 1)] == [1100, 200]
    assert _number(filled, "cost.quota_highest") == 0.75
    assert _number(filled, "cost.rejections_count") == 8
    assert _number(filled, "cost.unpriced_count") >= 2
    models = last_values(run_query(filled, _panel("cost.models")[0]), "model")
    assert models == {"shown-model": pytest.approx(1.623456789)}
    [today] = run_query(filled, _panel("cost.daily")[0])
    assert [usd for _, usd in today.values if usd] == [pytest.approx(1.623456789)]
    table = [last_values(run_query(filled, query), "user_id") for query in _panel("cost.users")]
    usd = 0.123456789
    down = [pytest.approx(usd), usd, 1.0, usd, 7, 770, 140, 6]
    assert [column[DOWN] for column in table] == down
    assert [column[WELL] for column in table] == [1.5, 1.5, 2.0, 0.75, 3, 330, 60, 2]
    quota = last_values(run_query(filled, _panel("cost.budget")[0]), "user_id")
    assert quota == {DOWN: 0.123456789, WELL: 0.75}


def test_services_show_rate_errors_and_duration(filled: Stack) -> None:
    # Rates are extrapolated, for each series from its own start.
    assert _number(filled, "services.error_share") == pytest.approx(0.1, rel=0.01)
    assert _number(filled, "services.active_total") == 3
    assert _number(filled, "services.websockets_total") == 2
    queue = last_values(run_query(filled, _panel("gateway.queue")[0]), "job")
    assert queue == {SERVICE: 6}
    routes = [
        last_values(run_query(filled, query), "job", "http_request_method", "http_route")
        for query in _panel("services.routes")
    ]
    row = (SERVICE, "GET", "/items/{id}")
    assert routes[1][row] == pytest.approx(0.1, rel=0.01)
    assert 0.005 < routes[2][row] <= 0.025


def test_logs_are_found_by_service_container_level_and_words(filled: Stack) -> None:
    chosen = {"service": "shown-inside", "handle": WELL, "level": "error"}
    for words in ("SEEN an", ""):
        asked = all_queries({**chosen, "search": words})
        [found] = [run_query(filled, query) for query in asked if query.panel == "logs.lines"]
        assert [series.lines for series in found] == [["shown-inside has seen an error"]]
    # Words are literal: not a pattern, and not an error.
    for words in ('it\'s "not" there', "seen.an", "seen(an"):
        none = all_queries({**chosen, "search": words})
        assert not any(run_query(filled, query) for query in none if query.panel == "logs.lines")


def test_legends_use_labels_of_the_answers(filled: Stack) -> None:
    unnamed = []
    for query, legend in _legends():
        for series in run_query(filled, query):
            wanted = promql.legend_labels(legend)
            if wanted and not wanted & set(series.labels):
                unnamed.append((query.panel, legend, series.labels))
    assert unnamed == []


def _legends() -> list[tuple[Query, str]]:
    from telemetry.dashboards.inventory import dashboards

    names = {place: name for name, place in PANELS.items()}
    legends = [
        (names[model["uid"], panel["id"]], target.get("legendFormat", ""))
        for model in dashboards()
        for panel in model["panels"]
        for target in panel.get("targets", ())
    ]
    queries = [query for query in all_queries(CHOSEN) if ":" not in query.panel]
    assert [name for name, _ in legends] == [query.panel for query in queries]
    return [(query, legend) for query, (_, legend) in zip(queries, legends, strict=True)]
