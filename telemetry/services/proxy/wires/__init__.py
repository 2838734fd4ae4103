"""The providers' wire formats: what a request asks, what an answer used, how errors look.

A new wire is a module here that implements `Wire`, and its line in `WIRES`: the proxy's routes,
its own upstream, its settings and its error messages follow from there.
"""

from __future__ import annotations

from telemetry.services.proxy.wires.anthropic import ANTHROPIC
from telemetry.services.proxy.wires.base import Ask, Context, EventStream, Wire
from telemetry.services.proxy.wires.openai import OPENAI

__all__ = ["ANTHROPIC", "OPENAI", "WIRES", "Ask", "Context", "EventStream", "Wire"]

WIRES: tuple[Wire, ...] = (ANTHROPIC, OPENAI)
"""Every wire. The last is the default on paths that several have: its clients need no marker."""
