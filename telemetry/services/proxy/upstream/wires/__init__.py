"""The providers' wire formats: what a request asks, what an answer used, how errors look."""

from __future__ import annotations

from telemetry.services.proxy.upstream.wires.anthropic import ANTHROPIC
from telemetry.services.proxy.upstream.wires.base import Ask, Context, EventStream, Wire
from telemetry.services.proxy.upstream.wires.openai import OPENAI

__all__ = ["ANTHROPIC", "OPENAI", "Ask", "Context", "EventStream", "Wire"]
