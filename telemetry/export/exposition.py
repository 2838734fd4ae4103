"""Prometheus text and OpenMetrics from points, and the `/metrics` endpoint.

The sample lines of a series are a format string, created once. Rendering them is one `%`
operation, so 10,000 histogram series sets take tens of milliseconds. Rendering runs in a thread
that yields the GIL every few hundred microseconds, so it never blocks the event loop.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

from telemetry.catalog import Metric
from telemetry.logs import access_logs
from telemetry.metrics.points import HistogramValue, Point
from telemetry.naming import label_name, unit_suffix
from telemetry.system.threads import in_thread

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_SLICE = 100  # series rendered before the thread yields the GIL: under half a millisecond
_TEMPLATES_LIMIT = 50_000


class Renderer:
    """Renders points, and caches the format string of each series."""

    def __init__(self) -> None:
        self._templates: dict[tuple[Any, ...], tuple[tuple[float, ...], str]] = {}

    def render(self, points: Iterable[Point], *, openmetrics: bool = False) -> bytes:
        """Render ``points``. Blocks; call it in a thread."""
        return b"".join(self.chunks(points, openmetrics=openmetrics))

    def chunks(
        self,
        points: Iterable[Point],
        declared: Iterable[Metric] = (),
        *,
        openmetrics: bool = False,
    ) -> list[bytes]:
        """Render ``points`` in parts, since thousands of series are tens of megabytes.

        Args:
            points: the points.
            declared: metrics to declare by HELP and TYPE even if they have no point.
            openmetrics: whether to use OpenMetrics instead of Prometheus' text format.
        """
        families: dict[str, list[Point]] = {}
        for point in points:
            if point.value is not None:
                families.setdefault(point.metric.prometheus, []).append(point)
        chunks: list[bytes] = []
        for family in families.values():
            chunks.append(_header(family[0].metric, openmetrics).encode())
            for start in range(0, len(family), _SLICE):
                text = "".join(map(self._sample, family[start : start + _SLICE]))
                chunks.append(text.encode())
                time.sleep(0)
        missing = {m.prometheus: m for m in declared if m.prometheus not in families}
        chunks += [_header(metric, openmetrics).encode() for metric in missing.values()]
        if openmetrics:
            chunks.append(b"# EOF\n")
        return chunks

    def _sample(self, point: Point) -> str:
        key, buckets = point.key, point.metric.buckets
        made_for, template = self._templates.get(key, ((), ""))
        # After a reload the same metric may have other buckets.
        if not template or (made_for is not buckets and made_for != buckets):
            if len(self._templates) >= _TEMPLATES_LIMIT:
                self._templates.clear()
            template = _template(point)
            self._templates[key] = (buckets, template)
        value = point.value
        if isinstance(value, HistogramValue):
            counts = tuple(accumulate(value.buckets))
            return template % (*counts, _number(value.sum), counts[-1])
        assert value is not None  # chunks() leaves ended series out
        return template % _number(value)


def _header(metric: Metric, openmetrics: bool) -> str:
    name, kind = metric.prometheus, metric.kind.replace("updowncounter", "gauge")
    if openmetrics and kind == "counter":
        name = name.removesuffix("_total")
    text = _escape(metric.description) if openmetrics else _escape_help(metric.description)
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    suffix = unit_suffix(metric.unit)
    if openmetrics and suffix and name.endswith(f"_{suffix}"):
        lines.append(f"# UNIT {name} {suffix}")
    return "\n".join(lines) + "\n"


def _template(point: Point) -> str:
    name = point.metric.prometheus
    labels = [f'{label_name(k)}="{_escape(v)}"' for k, v in point.key[1]]
    plain = "{" + ",".join(labels) + "}" if labels else ""
    plain = plain.replace("%", "%%")
    if point.metric.kind != "histogram":
        return f"{name}{plain} %s\n"
    lines = []
    for bound in (*point.metric.buckets, None):
        le = "+Inf" if bound is None else repr(float(bound))
        inner = ",".join([*labels, f'le="{le}"']).replace("%", "%%")
        lines.append(f"{name}_bucket{{{inner}}} %d\n")
    lines.append(f"{name}_sum{plain} %s\n{name}_count{plain} %d\n")
    return "".join(lines)


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


class MetricsEndpoint:
    """Responds to `GET /metrics`: in text or OpenMetrics, gzipped or not, as the client accepts.

    Args:
        page: renders the page's parts, in OpenMetrics if its argument is True. Blocks.
    """

    def __init__(self, page: Callable[[bool], list[bytes]]) -> None:
        self._page = page

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            text = b"only GET and HEAD\n"
            length = str(len(text)).encode()
            headers = [(b"allow", b"GET, HEAD"), (b"content-length", length)]
            await _answer(send, 405, [text], headers)
            return
        access_logs.leave_out(scope["path"])  # servers log a request when it is answered
        accept, encoding = _negotiate(scope["headers"])
        body, headers = await in_thread(self.render, accept, encoding)
        await _answer(send, 200, body if scope["method"] == "GET" else [], headers)

    def render(self, accept: str, encoding: str) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
        """Render body parts and headers of the response. Blocks.

        Args:
            accept: the request header of that name.
            encoding: the request header ``accept-encoding``.
        """
        openmetrics = _quality(accept, "application/openmetrics-text") > _quality(
            accept, "text/plain"
        )
        body = self._page(openmetrics)
        content_type = OPENMETRICS if openmetrics else TEXT
        headers = [(b"content-type", content_type.encode()), (b"vary", b"accept, accept-encoding")]
        if _quality(encoding, "gzip") > 0:
            # Level 1 takes half the CPU of the default, and scrapes over loopback are frequent.
            packer = zlib.compressobj(level=1, wbits=31)  # 31: as gzip
            body = [*map(packer.compress, body), packer.flush()]
            headers.append((b"content-encoding", b"gzip"))
        size = sum(map(len, body))
        headers.append((b"content-length", str(size).encode()))
        return body, headers


def _negotiate(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    found = {name: value.decode("latin-1") for name, value in headers}
    return found.get(b"accept", ""), found.get(b"accept-encoding", "")


def _quality(header: str, wanted: str) -> float:
    """Get the quality of one value in an Accept header, 0 if the header doesn't allow it.

    Source: RFC 9110, sections 12.4.2 and 12.5.1
    """
    best: dict[str, float] = {}
    for part in header.split(","):
        name, *parameters = (piece.strip() for piece in part.lower().split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        with contextlib.suppress(ValueError):
            best[name] = max(best.get(name, 0.0), float(quality))
    names = (wanted, f"{wanted.partition('/')[0]}/*", "*/*")
    return next((best[name] for name in names if name in best), 0.0)


async def _answer(
    send: Any, status: int, body: list[bytes], headers: list[tuple[bytes, bytes]]
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for part in filter(None, body):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
