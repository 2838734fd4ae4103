"""A simulated model: both providers' wire formats, deterministic, for tests and the demo only.

It never was a model: everything it says starts with ``Simulated answer``, its ids contain
``simulated``, and each response carries ``x-simulated: true``.

Start it with ``python -m telemetry.simulated --port 8090`` or serve :func:`create_app`. It
speaks ``/v1/messages``, ``/v1/messages/count_tokens``, ``/v1/chat/completions``,
``/v1/responses``, ``/v1/embeddings`` and ``/v1/models``; any key is taken.

What it answers
    Plain text: ``Simulated answer to: <the last user message>``, one token a word.
    Offered any of the tools ``container_status``, ``query_metrics``, ``search_logs`` and
    ``costs``, and asked about a container ("How is container demo-1 doing?"), it calls those
    offered, once each and all in one turn, filling their arguments from the tools' own JSON
    schema (a property named ``handle`` gets the handle, ``user`` and ``user_id`` too; a
    PromQL or LogQL query gets one for that handle; anything else only where it is required).
    Given their results, it answers ``Simulated answer about container demo-1:`` and then one
    line for each tool, quoting the results word for word. Offered other tools, or asked
    something else, it answers in plain text, unless ``tool=NAME`` asks for a call.

How to steer it
    By header ``x-simulated: key=value, key=value`` or by the same text in
    ``metadata.simulated`` of the request (OpenAI) or ``metadata.user_id`` starting with
    ``simulated:`` (Anthropic). Keys:

    ========================  ==========================================================
    ``chunks=N``              the answer is N tokens long, each streamed on its own
    ``delay=S``, ``gap=S``    seconds before the first byte, and between chunks
    ``status=N``              answer with this HTTP error; with ``retry_after=S`` header
    ``times=N``, ``id=X``     ... only for the first N requests with this id
    ``drop_after=N``          close the connection after N chunks
    ``error_after=N``         a provider's error event after N chunks
    ``garbled=1``             a body that is not JSON, or a stream of broken events
    ``hang=1``                never answer (until the client goes)
    ``input=N`` ``output=N``  the usage to report
    ``cached=N`` ``write=N`` ``write_1h=N`` ``reasoning=N``  ... of which these
    ``tool=NAME``             call this tool
    ========================  ==========================================================

    By model name: ``simulated-slow``, ``simulated-error``, ``simulated-overloaded``,
    ``simulated-cut``, ``simulated-garbled`` behave as they are called. Models that start with
    none of the prefixes in :data:`telemetry.simulated.script.KNOWN` are unknown: 404.
"""

from __future__ import annotations

from telemetry.simulated.app import create_app

__all__ = ["create_app"]
