"""Names of the stack's own parts: the same ones wherever they are listed."""

from __future__ import annotations

import re

from telemetry.settings.stack import ENGINE_NAMES, OWN_SERVICES, TLS_ENGINES
from telemetry.stack.engines.engine import table
from telemetry.stack.processes import SERVICES
from telemetry.system import packaged_files

CONFIG = packaged_files.path("collector/config.yaml").read_text()


def test_engines_are_those_of_the_table() -> None:
    assert set(ENGINE_NAMES) == set(table())
    assert set(TLS_ENGINES) < set(ENGINE_NAMES)
    assert set(SERVICES) < set(OWN_SERVICES)


def test_nobody_else_may_use_their_names() -> None:
    reserved = re.findall(
        r'IsMatch\(resource\.attributes\["service\.name"\], "\^\(([\w|]+)\)\$"\)', CONFIG
    )
    assert [set(names.split("|")) for names in reserved] == [set(OWN_SERVICES)] * 2


def test_nobody_else_may_use_names_of_their_metrics() -> None:
    """Services' metrics begin with the service's name, the Collector's with otelcol."""
    (reserved,) = re.findall(r"\*\(\((proxy\|[\w|]+)\)", CONFIG)
    engines = {"otelcol" if name == "collector" else name for name in ENGINE_NAMES}
    assert set(reserved.split("|")) == {"proxy", "platform"} | engines
