"""A simulated model: both providers' wire formats, deterministic, for tests and the demo only.

It is not a model. Every answer starts with ``Simulated``, its ids contain ``simulated``, and each
response carries ``x-simulated: true``.

Start it with ``python -m telemetry.simulated --port 8090`` or serve :func:`create_app`. It
speaks ``/v1/messages``, ``/v1/messages/count_tokens``, ``/v1/chat/completions``,
``/v1/responses``, ``/v1/embeddings`` and ``/v1/models``, and accepts any key.

What it answers
    Plain text: ``Simulated answer to: <the last user message>``, one token for each word.
    If a request offers any of the tools ``container_status``, ``query_metrics``, ``search_logs``
    and ``costs``, and asks about a container ("How is container demo-1 doing?"), it calls each
    of them once, all in one turn. The arguments follow the tools' JSON schemas: the properties
    ``handle``, ``user`` and ``user_id`` get the handle, a PromQL or LogQL query gets one for that
    handle, and other properties get a value only if they are required. To the tools' results it
    answers ``Simulated answer about container demo-1:`` and a line for each tool that quotes its
    result. If a request offers other tools or asks about something else, it answers in plain
    text, unless ``tool=NAME`` demands a call.

How to steer it
    By header ``x-simulated: key=value, key=value`` or by the same text in
    ``metadata.simulated`` of the request (OpenAI) or ``metadata.user_id`` starting with
    ``simulated:`` (Anthropic). Keys:

    ========================  ==========================================================
    ``chunks=N``              the answer is N tokens long, each streamed on its own
    ``delay=S``, ``gap=S``    seconds before the first byte, and between chunks
    ``status=N``              answer with this HTTP error; with ``retry_after=S`` header
    ``times=N``, ``id=X``     ... for the first N requests with this id only
    ``drop_after=N``          close the connection after N chunks
    ``error_after=N``         a provider's error event after N chunks
    ``garbled=1``             a body that is not JSON, or a stream of broken events
    ``hang=1``                never answer (until the client disconnects)
    ``input=N`` ``output=N``  the usage to report
    ``cached=N`` ``write=N`` ``write_1h=N`` ``reasoning=N``  ... of which these
    ``tool=NAME``             call this tool
    ========================  ==========================================================

    By model name: ``simulated-slow``, ``simulated-error``, ``simulated-overloaded``,
    ``simulated-cut`` and ``simulated-garbled`` behave as their names say. A model whose name has
    none of the prefixes in :data:`telemetry.simulated.script.KNOWN` is unknown: 404.
"""

from __future__ import annotations

from telemetry.simulated.app import create_app

__all__ = ["create_app"]
