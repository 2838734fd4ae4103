"""Measure the metering proxy, compared with LiteLLM's proxy and a bare pass-through.

    nox -s bench -- proxy               (or: python -m bench.proxy)
    … --quick --concurrency 16          one short round of one case

Each variant has one worker. They share one upstream on loopback, which responds immediately with
constant bytes in the wire format of the simulated model. Our proxy runs as in production:
instrumented, ledger in SQLite, daily and monthly budgets, requests and tokens per minute. LiteLLM
runs without a database and without keys, so it has no ledger, no quotas and no authentication. The
variants take turns round by round; figures are medians over the rounds. The load generator and
the upstream share this process, so that with two cores the variants have the other core.
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

import uvloop

from bench.load import CHUNKS, MODEL, Load, Upstream

CONCURRENCIES = (1, 16, 64)


@dataclass
class Variant:
    """A server under test."""

    name: str
    url: str
    key: str = "tk-none"
    process: subprocess.Popen[bytes] | None = None

    def cpu_s(self) -> float:
        """Read the CPU seconds of the server and its children so far."""
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
    """Build a bare pass-through with Starlette and aiohttp."""
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
    """Start a server in its own process group; it is terminated with the exit stack."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environ},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def end() -> None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)
    return process


async def wait_until_listening(
    url: str, process: subprocess.Popen[bytes], timeout_s: float
) -> None:
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
    from telemetry.services.proxy.ledger import accounts
    from telemetry.services.proxy.ledger.migrations import open_ledger
    from telemetry.services.proxy.ledger.stores import parse_url

    engine = open_ledger(parse_url(f"sqlite:///{home / 'ledger.db'}"))
    limits = {
        "daily_budget_usd": 100_000,
        "monthly_budget_usd": 900_000,
        "requests_per_minute": 10**9,
        "tokens_per_minute": 10**12,
    }
    key = accounts.create_key(engine, "bench", accounts.limits(limits)).key
    engine.dispose()
    port = free_port()
    environ = {
        "TELEMETRY_HOME": str(home),
        "TELEMETRY_OPENAI_URL": upstream,
        "OPENAI_API_KEY": "sk-x",
        # No Collector runs here. Requests are counted all the same.
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    command = [sys.executable, "-m", "telemetry", "proxy", "--port", str(port)]
    process = begin(stack, command, environ)
    return Variant("telemetry proxy", f"http://127.0.0.1:{port}", key, process)


def bare_variant(stack: ExitStack, upstream: str) -> Variant:
    port = free_port()
    uvicorn = "uvicorn bench.proxy:bare_app --factory --no-access-log --loop uvloop"
    command = [sys.executable, "-m", *uvicorn.split(), "--http", "httptools", "--port", str(port)]
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
    environ = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        # Newer versions need this to run without any key, which is their fastest mode.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    args = [command, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    process = begin(stack, [*args, "--num_workers", "1"], environ)
    return Variant("LiteLLM", f"http://127.0.0.1:{port}", process=process)


@dataclass
class Figures:
    """Figures of one variant in one case, one per round."""

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
    # Calls that are settled after the last response count too.
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
            print("LiteLLM is not installed: pip install 'litellm[proxy]', or use --litellm PATH")
        for variant in variants:
            if variant.process:
                await wait_until_listening(variant.url, variant.process, 180)
                await Load(variant.url, variant.key, False, 4, seconds).run()
        for stream in (False, True):
            for concurrency in args.concurrency or CONCURRENCIES:
                results = {variant.name: Figures() for variant in variants}
                for _ in range(rounds):
                    for variant in variants:
                        to = results[variant.name]
                        await measure(variant, stream, concurrency, seconds, to)
                kind = f"{CHUNKS}-chunk streams" if stream else "unstreamed"
                show(f"{kind}, concurrency {concurrency}", variants, results)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument(
        "--concurrency",
        type=int,
        action="append",
        help="concurrency to measure (default: 1, 16 and 64; repeatable)",
    )
    beside = Path(sys.executable).with_name("litellm")
    litellm = shutil.which(str(beside)) or shutil.which("litellm")
    parser.add_argument(
        "--litellm", default=litellm, help="LiteLLM's command (default: the one on PATH)"
    )
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
