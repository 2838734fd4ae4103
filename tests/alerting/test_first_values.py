"""The first event of a counter fires its rule, from the library through the Collector."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from telemetry.alerting.render.prometheus import condition
from telemetry.alerting.rules import all_rules
from telemetry.alerting.thresholds import Thresholds
from tests.fixtures.stack import Stack

pytestmark = pytest.mark.stack

RULES = {rule.name: rule for rule in all_rules(Thresholds())}
# A process that counts once, exports and exits.
ONCE = """
import telemetry
from telemetry import catalog, metrics
telemetry.start(service_name="first-values")
metrics.counter(catalog.{metric}).add({times}, {attributes!r})
assert telemetry.flush(10)
"""


@pytest.mark.parametrize(
    ("rule", "metric", "times", "attributes"),
    [
        ("ContainerOOMKilled", "PLATFORM_CONTAINER_OOM_KILLS", 1, {"handle": "first"}),
        ("ContainerRestartLoop", "PLATFORM_CONTAINER_RESTARTS", 4, {"handle": "first"}),
        ("UnpricedModel", "PROXY_UNPRICED_CALLS", 1, {"model": "first"}),
        ("QuotaRejections", "PROXY_QUOTA_REJECTIONS", 21, {"user_id": "first"}),
        ("TelemetryLoss", "TELEMETRY_DROPPED", 1, {"signal": "logs", "reason": "first"}),
    ],
)
def test_first_value_of_a_counter_fires_its_alert(
    stack: Stack, rule: str, metric: str, times: int, attributes: dict[str, str]
) -> None:
    code = ONCE.format(metric=metric, times=times, attributes=attributes)
    subprocess.run([sys.executable, "-c", code], env=stack.service_env(), check=True, timeout=60)

    def raised(found: list[dict[str, Any]]) -> bool:
        return any(
            attributes.items() <= series["metric"].items()
            and round(float(series["value"][1])) == times
            for series in found
        )

    stack.wait_query(condition(RULES[rule]), raised)
