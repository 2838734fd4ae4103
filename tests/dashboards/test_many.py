"""With a thousand containers and users, every query works and graphs stay readable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from telemetry.dashboards import all_queries
from telemetry.dashboards.selections import LINES
from tests.dashboards.filler import counting
from tests.dashboards.stores import run_query
from tests.dashboards.test_engines import container, user
from tests.fixtures.stack import Stack

pytestmark = pytest.mark.stack

HANDLES = [f"many-{number}" for number in range(1000)]
# Tables and variables, which list all of them.
LISTS = {"overview.containers", "cost.users", "variable:handle", "variable:user_id"}
# Always show every container that is down or unhealthy.
WRONG = {"container.up", "container.healthy"}


@pytest.fixture
def many(new_stack: Stack) -> Iterator[Stack]:
    """A stack with a thousand containers and as many users."""
    new_stack.run("up", "--no-services")
    containers = [each for handle in HANDLES for each in container(handle, 1, 50, 2)]
    users = [each for handle in HANDLES for each in user(handle, 3, 0.25, 1)]
    with (
        counting(new_stack, "many-platform", containers),
        counting(new_stack, "many-proxy", users),
    ):
        for metric in ("platform_container_up", "proxy_user_budget_usd"):
            new_stack.wait_query(f"count({metric}) == 1000", timeout_s=60)
        yield new_stack


def test_graphs_draw_at_most_20_of_a_thousand_containers_and_users(many: Stack) -> None:
    """Both with "All" and with every one selected."""
    everyone = f"({'|'.join(HANDLES)})"
    for chosen in ({}, {"handle": everyone, "user_id": everyone}):
        asked = 0
        for query in all_queries(chosen, range_s=900):
            about = query.panel.partition(".")[0]
            if about not in ("container", "cost", "overview") and query.panel not in LISTS:
                continue
            asked += 1
            found = run_query(many, query)
            if query.panel in LISTS:
                assert len(found) in (0, len(HANDLES)), query.panel
            elif query.panel not in WRONG:
                assert len(found) <= LINES, query.panel
        assert asked > 60
