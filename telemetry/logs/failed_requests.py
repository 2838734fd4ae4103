"""Give the record of a failed request the request's trace.

A server logs an exception of the app after the request's context has ended. So the exception itself
takes the trace with it.
"""

from __future__ import annotations

import contextlib

from opentelemetry import trace

_ATTRIBUTE = "_telemetry_span_context"


def note_trace(error: BaseException) -> None:
    """Note the current trace, or that there is none, on an exception that leaves its request."""
    with contextlib.suppress(Exception):  # a class of the app may refuse attributes
        setattr(error, _ATTRIBUTE, trace.get_current_span().get_span_context())


def noted_trace(error: BaseException | None) -> trace.SpanContext:
    """Return the trace that an exception left; an invalid one if there is none."""
    found = getattr(error, _ATTRIBUTE, None)
    return found if isinstance(found, trace.SpanContext) else trace.INVALID_SPAN_CONTEXT
