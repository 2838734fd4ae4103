"""Every panel and rule on the data of real services with real traffic: no query fails, none is
empty, and the numbers match the traffic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from telemetry.dashboards import PANELS, Query, all_queries
from tests.dashboards import traffic
from tests.dashboards.stores import Series, last_values, run_query
from tests.dashboards.traffic import ANN, BOB, CAROL, HUNGRY, KILLED, LIVES, STARTS, UNWELL, Day
from tests.fixtures.stack import until
from tests.fixtures.whole import Whole
from tests.gateway.test_metrics import TABLE as GATEWAY
from tests.platform.test_metrics import SERIES as PLATFORM
from tests.proxy.test_plan import PLAN as PROXY

pytestmark = [pytest.mark.stack, pytest.mark.docker]


@pytest.fixture(scope="module")
def day(whole: Whole) -> Iterator[Day]:
    """The day, when it is over."""
    with traffic.a_day(whole) as over:
        yield over


def _answers(day: Day, name: str, **chosen: str) -> list[list[Series]]:
    """Run a panel's queries, all for the same moment: five seconds ago, because samples may be
    late, but not before the day was over."""
    queries = [query for query in all_queries(chosen) if query.panel == name]
    assert queries, name
    now = max(time.time() - 5, day.over)
    return [run_query(day.whole, query, now=now) for query in queries]


def _number(day: Day, name: str, **chosen: str) -> float:
    [[series]] = _answers(day, name, **chosen)
    return series.last


def test_no_query_fails_and_no_panel_is_empty(day: Day) -> None:
    shown: dict[str, int] = {}
    for query in all_queries():
        shown[query.panel] = shown.get(query.panel, 0) + len(run_query(day.whole, query))
    assert {name for name, series in shown.items() if not series} == set()
    # Its list of alerts is Grafana's own.
    assert set(PANELS) - set(shown) == {"overview.alerts"}


def test_no_rule_fails_and_every_rule_has_a_value(day: Day) -> None:
    empty = set()
    for rule in all_rules(Thresholds()):
        question = Query("", rule.name, rule.source, rule.expression, True, 3600, 5)
        if not run_query(day.whole, question):
            empty.add(rule.name)
    # The first needs a minimum of traffic, the others have a second condition.
    assert empty <= {"HighErrorRate", "DiskSpaceLow", "ErrorLogBurst"}


def test_costs_equal_the_ledger_to_the_last_digit(day: Day) -> None:
    # Published prices for a million tokens in and out: 3 and 15 USD, 2 and 8 USD.
    assert day.costs[ANN] == Decimal("0.02025")
    assert day.costs[BOB] == Decimal("0.0028")
    [cost, today, budget, used, calls, tokens_in, tokens_out, refused] = (
        last_values(series, "user_id") for series in _answers(day, "cost.users")
    )
    usd = {user: pytest.approx(float(amount), abs=1e-12) for user, amount in day.costs.items()}
    assert {user: cost[user] for user in usd} == usd
    assert {user: today[user] for user in usd} == usd
    assert {user: calls[user] for user in day.calls} == day.calls
    assert (budget[ANN], budget[BOB]) == (1, 0.02)
    assert used[BOB] == pytest.approx(0.0028 / 0.02)
    assert (tokens_in[ANN], tokens_out[ANN]) == (5000, 350)
    assert refused[CAROL] == 2
    total = float(sum(day.costs.values()))
    assert _number(day, "cost.total") == pytest.approx(total, abs=1e-12)
    assert _number(day, "overview.cost") == pytest.approx(total, abs=1e-12)
    [[*models]] = _answers(day, "cost.models", user_id=f"{ANN}|{BOB}")
    assert last_values(models, "model") == {
        "claude-sonnet-4-6": pytest.approx(0.02025),
        "gpt-4.1": pytest.approx(0.0028),
    }
    [days] = _answers(day, "cost.daily", user_id=ANN)
    assert [usd for _, usd in days[0].values] == [pytest.approx(0.02025)]
    assert _number(day, "cost.unpriced_count") == 1
    # A user without a container does not count.
    own = _number(day, "container.cost_today", handle=f"{LIVES}|{ANN}")
    assert own == pytest.approx(float(day.costs[LIVES]), abs=1e-12)


def test_containers_match_docker(day: Day) -> None:
    whole = day.whole
    [up, healthy, _, memory, share, restarts, kills, received, *_] = (
        last_values(series, "handle") for series in _answers(day, "overview.containers")
    )
    assert up == {LIVES: 1, KILLED: 0, STARTS: 1, HUNGRY: 0, UNWELL: 1}
    assert healthy == {LIVES: 1, UNWELL: 0}
    assert (restarts[STARTS], restarts[LIVES]) == (2, 0)
    assert whole.container(STARTS).attrs["RestartCount"] == 2
    assert kills[HUNGRY] >= 1
    assert kills[LIVES] == 0
    limit = whole.container(LIVES).attrs["HostConfig"]["Memory"]
    assert share[LIVES] == pytest.approx(memory[LIVES] / limit)
    assert received[LIVES] > 0
    # Its calls are done, so the counters no longer change and equal those of its network device.
    device = whole.container(LIVES).exec_run(["cat", "/proc/net/dev"]).output.decode()
    fields = device.split("eth0:")[1].split()
    for metric, number in (("receive", fields[0]), ("transmit", fields[8])):
        name = f"platform_container_network_{metric}_bytes_total"
        whole.wait_query(f'{name}{{handle="{LIVES}"}} == {number}')
    states = last_values(_answers(day, "overview.states")[0], "status")
    assert (states["running"], states["exited"]) == (3, 2)
    assert _number(day, "overview.containers_down") == 2
    made, failed = day.provisioned
    assert _number(day, "overview.provision") == pytest.approx(made / (made + failed))
    assert _number(day, "container.state", handle=KILLED) == 0
    assert _number(day, "container.health", handle=LIVES) == 1
    assert _number(day, "container.health", handle=KILLED) == -1


def test_dispatches_requests_and_failures_match_the_traffic(day: Day) -> None:
    whole = day.whole
    counted = last_values(
        run_query(whole, _query('sum by (status) (gateway_kernel_dispatch_total{handle=""})')),
        "status",
    )
    assert {status: n for status, n in counted.items() if n} == day.dispatches
    shares = last_values(_answers(day, "overview.dispatches")[0], "status")
    assert shares["ok"] > shares["error"] > 0
    for name in ("gateway.dispatch_latency", "container.dispatch"):
        assert len(_answers(day, name, handle=".*" if name[0] == "g" else LIVES)) == 3
    # A shell that has left is counted until the gateway's next export.
    until(lambda: _number(day, "overview.websockets") == 1, what="one shell is connected")
    kinds = {
        (series.labels["job"], series.labels["http_response_status_code"])
        for series in _answers(day, "services.failures")[0]
    }
    assert {("gateway", "404"), ("proxy", "500"), ("proxy", "429")} <= kinds
    upstream = last_values(_answers(day, "cost.upstream_errors")[0], "provider")
    assert upstream["openai"] > 0
    dispatched = sum(day.dispatches.values())
    spent = float(day.costs["gateway"])
    assert _number(day, "cost.per_dispatch") == pytest.approx(
        (spent + _inside(day)) / (dispatched + 1)
    )


def _inside(day: Day) -> float:
    """Return the cost of the gateway in the container."""
    query = f'sum(gateway_ai_cost_usd_total{{handle="{LIVES}"}})'
    return run_query(day.whole, _query(query))[0].last


def _query(promql: str) -> Query:
    return Query("", promql, "prometheus", promql, True, 3600, 5)


def test_log_lines_are_found_once_and_counted(day: Day) -> None:
    [streams] = _answers(day, "logs.lines", handle=LIVES, service="container")
    assert sorted(line for series in streams for line in series.lines) == sorted(traffic.LINES)
    assert _number(day, "container.error_lines", handle=LIVES) == 1
    [found] = _answers(day, "logs.lines", search="error OF the d", level="error")
    assert [series.labels["handle"] for series in found] == [LIVES]
    assert _number(day, "logs.line_count", handle=LIVES, service="container") == len(traffic.LINES)


def test_firing_alerts_are_counted_and_annotated(day: Day) -> None:
    assert _number(day, "overview.critical") >= 3  # two are down, one of them out of memory
    firing = {series.labels["alertname"] for series in _answers(day, "annotation:Firing alerts")[0]}
    assert {"ContainerDown", "ContainerOOMKilled"} <= firing
    marks = {"Container starts": LIVES, "Container kills": KILLED, "OOM kills": HUNGRY}
    for mark, handle in marks.items():
        marked = _answers(day, f"annotation:{mark}", handle=handle)
        assert all(any(series.labels["handle"] == handle for series in each) for each in marked)


# Labels that Prometheus adds: the reporter's, and promoted resource attributes.
_REPORTER = {"__name__", "job", "instance", "le", "handle", "host_name", "service_version"}


def test_every_planned_metric_has_the_same_labels_on_metrics_and_in_prometheus(day: Day) -> None:
    plans: dict[str, dict[str, set[str]]] = {
        "gateway": {name: labels for name, (_, labels) in GATEWAY.items()},
        "platform": {name: labels for name, (_, labels) in PLATFORM.items()},
        "proxy": {name: set(labels.split()) for name, (_, labels, _) in PROXY.items()},
    }
    for service, plan in plans.items():
        page = day.whole.ask(service, "GET", "/metrics").text
        families = {family.name: family for family in text_string_to_metric_families(page)}
        for name, labels in plan.items():
            family = families[name.removesuffix("_total") if name not in families else name]
            sample = f"{name}_bucket" if family.type == "histogram" else name
            shown = [set(s.labels) - {"le"} for s in family.samples if s.name == sample]
            assert labels in shown, (name, shown)
            stored = day.whole.query(f'{sample}{{job="{service}"}}')
            kept = [set(series["metric"]) - (_REPORTER - labels) for series in stored]
            assert labels in kept, (name, kept)
