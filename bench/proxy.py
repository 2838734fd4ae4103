"""What the metering proxy costs, beside LiteLLM's proxy and a bare pass-through.

    nox -s bench -- proxy           (or: python -m bench.proxy [--quick] [--litellm PATH])

One worker each, one upstream that answers at once from canned bytes of the simulated model's
wire format, loopback. Our proxy runs as in production: instrumented, ledger in SQLite, day and
month budgets, requests and tokens per minute. LiteLLM runs without a database, so it keeps no
ledger and no quotas. All variants take turns, round by round; figures are medians over rounds.
The load generator and the upstream share this process, so with two cores the variants have
one to themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from telemetry.simulated import anthropic, openai
from telemetry.simulated.script import Directives, Turn, reply

CONCURRENCIES = (1, 16, 64)
CHUNKS = 50
MODEL = "gpt-4.1"
PROMPT = "How much is it? " * 20


def canned() -> tuple[bytes, list[bytes], list[bytes]]:
    """An answer in one piece, and streamed without and with usage, as HTTP messages."""
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
    """Answers each request at once; a stream one event per turn of the loop."""

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
    """One connection that sends the next request when it has the whole answer."""

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
        """Calls a second."""
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


@dataclass
class Variant:
    """A server under test."""

    name: str
    url: str
    key: str = "tk-none"
    process: subprocess.Popen[bytes] | None = None

    def cpu_s(self) -> float:
        """CPU seconds of the server and its children so far."""
        if self.process is None:
            return 0.0
        total = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == self.process.pid:  # its process group
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")


def bare_app() -> object:
    """Starlette and aiohttp, passing through and nothing else."""
    from contextlib import asynccontextmanager

    import aiohttp
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    upstream = os.environ["BENCH_UPSTREAM"]

    @asynccontextmanager
    async def lifespan(app: Starlette):  # type: ignore[no-untyped-def]
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            app.state.session = session
            yield

    async def forward(request: Request) -> Response:
        answer = await request.app.state.session.post(
            f"{upstream}/v1/chat/completions",
            data=await request.body(),
            headers={"content-type": "application/json", "authorization": "Bearer sk-x"},
        )
        kind = answer.headers["content-type"]
        if kind != "text/event-stream":
            async with answer:
                return Response(await answer.read(), answer.status, media_type=kind)

        async def chunks():  # type: ignore[no-untyped-def]
            async with answer:
                async for chunk in answer.content.iter_any():
                    yield chunk

        return StreamingResponse(chunks(), answer.status, media_type=kind)

    routes = [Route("/v1/chat/completions", forward, methods=["POST"])]
    return Starlette(routes=routes, lifespan=lifespan)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def begin(stack: ExitStack, command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a server in its own process group, ended with the stack."""
    process = subprocess.Popen(
        command, env={**os.environ, **environ}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def end() -> None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)
    return process


async def listening(url: str, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{process.args!r} did not start") from None
            await asyncio.sleep(0.1)


def our_variant(stack: ExitStack, home: Path, upstream: str) -> Variant:
    from telemetry.services.proxy import accounts
    from telemetry.services.proxy.ledger import open_ledger
    from telemetry.services.proxy.stores import parse_url

    engine = open_ledger(parse_url(f"sqlite:///{home / 'ledger.db'}"))
    limits = {
        "daily_budget_usd": 100_000, "monthly_budget_usd": 900_000,
        "requests_per_minute": 10**9, "tokens_per_minute": 10**12,
    }  # fmt: skip
    key = accounts.create_key(engine, "bench", accounts.limits(limits)).key
    engine.dispose()
    port = free_port()
    environ = {
        "TELEMETRY_HOME": str(home), "TELEMETRY_OPENAI_URL": upstream, "OPENAI_API_KEY": "sk-x",
        # No collector runs here; counting goes on all the same.
        "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
    }  # fmt: skip
    command = [sys.executable, "-m", "telemetry", "proxy", "--port", str(port)]
    process = begin(stack, command, environ)
    return Variant("telemetry proxy", f"http://127.0.0.1:{port}", key, process)


def bare_variant(stack: ExitStack, upstream: str) -> Variant:
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", "bench.proxy:bare_app", "--factory", "--port", str(port),
        "--no-access-log", "--loop", "uvloop", "--http", "httptools",
    ]  # fmt: skip
    process = begin(stack, command, {"BENCH_UPSTREAM": upstream})
    return Variant("Starlette + aiohttp, bare", f"http://127.0.0.1:{port}", process=process)


def litellm_variant(stack: ExitStack, home: Path, upstream: str, command: str) -> Variant:
    port = free_port()
    config = home / "litellm.yaml"
    config.write_text(
        f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n"
        f"      model: openai/{MODEL}\n      api_base: {upstream}/v1\n      api_key: sk-x\n"
        "litellm_settings:\n  telemetry: false\n"
    )
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    args = [command, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    process = begin(stack, [*args, "--num_workers", "1"], environ)
    return Variant("LiteLLM", f"http://127.0.0.1:{port}", process=process)


@dataclass
class Figures:
    """Of one variant in one case, over the rounds."""

    rate: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


async def measure(
    variant: Variant, stream: bool, concurrency: int, seconds: float, to: Figures
) -> None:
    load = Load(variant.url, variant.key, stream, concurrency, seconds)
    before = variant.cpu_s()
    to.rate.append(await load.run())
    # What is settled after the last answer belongs to the calls too.
    await asyncio.sleep(0.05)
    used = variant.cpu_s() - before
    found = sorted(load.latencies)
    to.p50_ms.append(found[len(found) // 2] * 1000)
    to.p99_ms.append(found[int(len(found) * 0.99)] * 1000)
    to.cpu_ms.append(used / len(found) * 1000)


def show(title: str, variants: list[Variant], results: dict[str, Figures]) -> None:
    print(f"\n{title}")
    print(f"{'':28}{'calls/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'+p50 ms':>10}{'CPU ms':>10}")
    direct = statistics.median(results["direct"].p50_ms)
    for variant in variants:
        found = results[variant.name]
        p50 = statistics.median(found.p50_ms)
        cpu = f"{statistics.median(found.cpu_ms):>10.3f}" if variant.process else f"{'–':>10}"
        print(
            f"{variant.name:28}{statistics.median(found.rate):>10.0f}{p50:>10.2f}"
            f"{statistics.median(found.p99_ms):>10.2f}{p50 - direct:>10.2f}{cpu}"
        )
    ours = results["telemetry proxy"].rate
    for name in ("Starlette + aiohttp, bare", "LiteLLM"):
        if name in results:
            ratios = [a / b for a, b in zip(ours, results[name].rate, strict=True)]
            print(f"  ours ÷ {name}: {statistics.median(ratios):.2f}")


async def run(args: argparse.Namespace) -> None:
    rounds, seconds = (1, 1.0) if args.quick else (3, 3.0)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=512)
    upstream = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench")))
        variants = [
            Variant("direct", upstream),
            bare_variant(stack, upstream),
            our_variant(stack, home, upstream),
        ]
        if args.litellm:
            variants.append(litellm_variant(stack, home, upstream, args.litellm))
        else:
            print("LiteLLM is not installed here: pip install 'litellm[proxy]', or --litellm PATH")
        for variant in variants:
            if variant.process:
                await listening(variant.url, variant.process, 180)
                await Load(variant.url, variant.key, False, 4, seconds).run()
        for stream in (False, True):
            for concurrency in CONCURRENCIES:
                results = {variant.name: Figures() for variant in variants}
                for _ in range(rounds):
                    for variant in variants:
                        to = results[variant.name]
                        await measure(variant, stream, concurrency, seconds, to)
                kind = f"{CHUNKS}-chunk streams" if stream else "in one piece"
                show(f"{kind}, concurrency {concurrency}", variants, results)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    beside = Path(sys.executable).with_name("litellm")
    litellm = shutil.which(str(beside)) or shutil.which("litellm")
    parser.add_argument("--litellm", default=litellm, help="LiteLLM's command [the one on PATH]")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
