"""Warn of variables of the environment that look like settings, but that nothing reads."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Collection, Iterator

from telemetry.settings import library
from telemetry.settings.stack import StackSettings
from telemetry.system import packaged_files
from telemetry.system.escapes import escape

_PREFIX = "TELEMETRY_"
_NAME = re.compile(rf"{_PREFIX}\w+")
# What the components' configuration reads itself.
_FOLDERS = ("collector", "compose", "grafana/provisioning")


def warn_of_unknown(given: Collection[str]) -> None:
    """Print one line for each unknown variable to stderr.

    Args:
        given: names of variables.
    """
    ours = {name for name in given if name.startswith(_PREFIX)}
    # The services' settings are imported only if they are needed.
    if unknown := ours - set(_of_apps_and_stack()):
        known = {*_of_apps_and_stack(), *_of_services(), *_in_configuration()}
        for name in sorted(unknown - known):
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else "it is ignored"
            print(f"warning: {escape(name)} is not a setting; {hint}", file=sys.stderr)


def _of_apps_and_stack() -> Iterator[str]:
    for cls in (library.Settings, library.LogSettings, StackSettings):
        yield from (one.variable for one in cls.settings())
    yield from (one.variable for one in library.OTHERS)


def _of_services() -> Iterator[str]:
    from telemetry.alerting.channels import ChannelVariables
    from telemetry.alerting.links import Links
    from telemetry.alerting.thresholds import Thresholds
    from telemetry.services.gateway import settings as gateway
    from telemetry.services.platform import settings as platform
    from telemetry.services.proxy import settings as proxy
    from telemetry.services.proxy.wires import WIRES

    services = (gateway.Settings, platform.Settings, proxy.Settings)
    for cls in (ChannelVariables, Links, Thresholds, *services):
        yield from (one.variable for one in cls.settings())
    yield proxy.UPSTREAMS.variable
    for wire in WIRES:
        yield from (one.variable for one in proxy.provider_settings(wire))


def _in_configuration() -> Iterator[str]:
    for folder in _FOLDERS:
        for path in sorted(packaged_files.path(folder).rglob("*.yaml")):
            yield from _NAME.findall(path.read_text())
