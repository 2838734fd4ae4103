"""A load generator for a model API, and an upstream that takes hardly any CPU.

Both are plain asyncio protocols, so that the server between them is what is measured.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

from telemetry.simulated import anthropic, openai
from telemetry.simulated.script import Directives, Turn, reply

CHUNKS = 50
MODEL = "gpt-4.1"
PROMPT = "How much is it? " * 20


def canned() -> tuple[bytes, list[bytes], list[bytes]]:
    """Build responses as HTTP messages: unstreamed, streamed, and streamed with usage."""
    asked = Directives(chunks=CHUNKS, input=100)
    answer = reply(Turn(PROMPT), asked)
    body = anthropic.dumps(openai.chat(MODEL, 1, answer, asked)).encode()
    whole = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-simulated: true\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-simulated: true\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )

    def streamed(with_usage: bool) -> list[bytes]:
        before, chunks, after = openai.chat_events(MODEL, 1, answer, asked, with_usage)
        framed = [b"%x\r\n%b\r\n" % (len(event), event) for event in [*before, *chunks, *after]]
        return [head, *framed[:-1], framed[-1] + b"0\r\n\r\n"]

    return whole, streamed(False), streamed(True)


class Upstream(asyncio.Protocol):
    """Responds immediately; sends one event of a stream per iteration of the event loop."""

    whole, plain, counted = canned()

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        size = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(rest) < size:
            return
        self._buffer = b""
        compact = rest.replace(b" ", b"")
        if b'"stream":true' not in compact:
            self._transport.write(self.whole)
        else:
            self._send(self.counted if b'"include_usage":true' in compact else self.plain, 0)

    def _send(self, events: list[bytes], index: int) -> None:
        self._transport.write(events[index])
        if index + 1 < len(events):
            asyncio.get_running_loop().call_soon(self._send, events, index + 1)


class Client(asyncio.Protocol):
    """A connection that sends its next request after the complete response."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._whole():
            return
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{self._load.url}: {self._buffer[:500]!r}")
        self._buffer = b""
        self._load.latencies.append(time.perf_counter() - self._began)
        if time.perf_counter() < self._load.until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._load.ended()

    def _whole(self) -> bool:
        if self._load.stream:
            return self._buffer.endswith(b"0\r\n\r\n")
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        at = head.lower().find(b"content-length:")
        if at < 0:
            return self._buffer.endswith(b"0\r\n\r\n")
        return len(body) >= int(head[at + 15 :].split(b"\r\n", 1)[0])


@dataclass
class Load:
    """A closed loop of ``concurrency`` connections for ``seconds``."""

    url: str
    key: str
    stream: bool
    concurrency: int
    seconds: float
    latencies: list[float] = field(default_factory=list)

    async def run(self) -> float:
        """Run the load; return calls per second."""
        flag = ', "stream": true' if self.stream else ""
        body = (
            f'{{"model": "{MODEL}", "max_tokens": 60{flag}, '
            f'"messages": [{{"role": "user", "content": "{PROMPT}"}}]}}'
        ).encode()
        host, _, port = self.url.removeprefix("http://").partition(":")
        self.request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (self.url[7:].encode(), self.key.encode(), len(body), body)
        )
        self._open = self.concurrency
        self._done = asyncio.Event()
        began = time.perf_counter()
        self.until = began + self.seconds
        loop = asyncio.get_running_loop()
        for _ in range(self.concurrency):
            await loop.create_connection(lambda: Client(self), host, int(port))
        await asyncio.wait_for(self._done.wait(), self.seconds + 30)
        return len(self.latencies) / (time.perf_counter() - began)

    def ended(self) -> None:
        self._open -= 1
        if not self._open:
            self._done.set()
