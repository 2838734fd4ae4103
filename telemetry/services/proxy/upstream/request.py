"""A request as it is sent to an upstream."""

from __future__ import annotations

from dataclasses import dataclass, field

from telemetry.services.proxy.wires import Wire

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What is sent to whichever upstream answers.

    Args:
        wire: the format, for the key's header.
        method: HTTP method.
        path: below the upstream's address, e.g. ``/messages``, with any query.
        headers: the client's; those that end at the proxy are left out.
        body: ``b""`` for none.
        whole: whether the answer takes long and comes in one piece: the upstream is silent until
            its end, and has the call's whole time.
    """

    wire: Wire
    method: str
    path: str
    headers: RawHeaders = field(repr=False)  # with the client's key
    body: bytes = field(default=b"", repr=False)
    whole: bool = False
