"""A thousand containers and users: every query answers, and graphs stay to be read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from telemetry.dashboards import all_queries
from telemetry.dashboards.queries import LINES
from tests.dashboards.asking import ask
from tests.dashboards.filler import counting
from tests.dashboards.test_engines import container, user
from tests.fixtures.stack import Stack

pytestmark = pytest.mark.stack

HANDLES = [f"many-{number}" for number in range(1000)]
# What lists them all, rather than drawing a line for each.
LISTS = {"overview.containers", "cost.users", "variable:handle", "variable:user_id"}
# Where something is wrong with a container, it is shown however many there are.
WRONG = {"container.up", "container.healthy"}


@pytest.fixture
def many(new_stack: Stack) -> Iterator[Stack]:
    """A stack that has a thousand containers, each with a user of its own."""
    new_stack.run("up", "--no-services")
    containers = [told for handle in HANDLES for told in container(handle, 1, 50, 2)]
    users = [told for handle in HANDLES for told in user(handle, 3, 0.25, 1)]
    with (
        counting(new_stack, "many-platform", containers),
        counting(new_stack, "many-proxy", users),
    ):
        for metric in ("platform_container_up", "proxy_user_budget_usd"):
            new_stack.wait_query(f"count({metric}) == 1000", timeout_s=60)
        yield new_stack


def test_a_thousand_containers_and_users_are_no_trouble(many: Stack) -> None:
    """With "all", and with each of them chosen."""
    everyone = f"({'|'.join(HANDLES)})"
    for chosen in ({}, {"handle": everyone, "user_id": everyone}):
        asked = 0
        for query in all_queries(chosen, range_s=900):
            about = query.panel.partition(".")[0]
            if about not in ("container", "cost", "overview") and query.panel not in LISTS:
                continue
            asked += 1
            found = ask(many, query)
            if query.panel in LISTS:
                assert len(found) in (0, len(HANDLES)), query.panel
            elif query.panel not in WRONG:
                assert len(found) <= LINES, query.panel
        assert asked > 60
