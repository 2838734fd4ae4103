"""Pieces of PromQL that several panels and rules need.

Two facts shape them. Pushed series carry no stale marker, so the last values of a process that
was killed stand for another 5 minutes beside those of its successor. And a counter's series
begins at 0, as the library exports it, and hardly ever resets (each process has its own, the
ledger's outlives the proxy), so a difference of two values is exact where `increase()` would
extrapolate: three provisionings of a minute ago read as four.
"""

from __future__ import annotations

# A process exports every 5 s by our default and every 60 s by OpenTelemetry's: what is older
# than one and a half of the latter belongs to a process that is gone. A judgement.
FRESH_S = 90
RATE = "$__rate_interval"
RANGE = "$__range"
STEP = "$__interval"
MIDNIGHT = "time() - time() % 86400"


def where(*matchers: str) -> str:
    """A label selector, ``""`` without matchers."""
    kept = ", ".join(matcher for matcher in matchers if matcher)
    return f"{{{kept}}}" if kept else ""


def latest(metric: str, by: str = "handle", matchers: str = "") -> str:
    """Each ``by``'s value as its newest reporter gave it; neither max nor min would pick the
    right one. Told apart by all their labels: a version or an environment that is promoted to
    one changes while job and instance stay.
    """
    selector = metric + where(matchers)
    return f"max by ({by}) ({selector} and topk by ({by}) (1, timestamp({selector})))"


def fresh(metric: str, matchers: str = "") -> str:
    """The series of processes that still report; to be summed over processes."""
    selector = metric + where(matchers)
    return f"({selector} and timestamp({selector}) > time() - {FRESH_S})"


def rate(metric: str, by: str = "", matchers: str = "", window: str = RATE) -> str:
    """Events a second, summed to ``by``."""
    return f"sum{_by(by)}(rate({metric}{where(matchers)}[{window}]))"


def quantile(q: float, metric: str, by: str = "", matchers: str = "", window: str = RATE) -> str:
    """The ``q`` quantile of a histogram, per ``by``."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, matchers, window)})"


def gained(metric: str, by: str = "", matchers: str = "", window: str = RANGE) -> str:
    """What counters gained in ``window``, to the last digit.

    A series' last value less the one at the window's start; where it was not reported then
    (its reporter was off, or the series is younger), or has been reset since, less its first
    value in the window, which is 0 for a new one. One that was reset within the window is left
    to `increase()`.
    """
    selector = metric + where(matchers)
    return _differences(f"{selector}[{window}]", f"{selector} offset {window}", by)


def risen(metric: str, window: str, by: str = "handle", matchers: str = "") -> str:
    """How far a counter that outlives its reporter rose within ``window``: a whole number.

    The platform and the proxy's ledger keep their counts, so one that restarts goes on where it
    was, perhaps as a new series; `increase()` would miss what happened between the two, and
    extrapolates: 17 of a series of two samples read as 21. Present value less the least within
    the window: a first value counts from the 0 that the library exports before it, a count that
    is found high is no event, a reset counts what came after it.
    """
    least = f"min by ({by}) (min_over_time({metric}{where(matchers)}[{window}]))"
    return f"{latest(metric, by, matchers)}\n- {least}"


def gained_lately(metric: str, window: str, by: str, matchers: str = "") -> str:
    """What counters gained in the ``window`` before each point, or since the point before where
    that is longer ago: in a long time range, too, nothing falls between two points.
    """
    since = gained(metric, by, matchers, STEP)
    return f"({gained(metric, by, matchers, window)} >= {since} or {since})"


def gained_each_day(metric: str, by: str = "", matchers: str = "") -> str:
    """What counters gained in the UTC day that begins at each step (step: 1 d).

    The windows look ahead (a negative offset), so that a day's bar stands at its own start and
    today's is already there. Each is the difference of the values at two midnights: days add
    up to the whole.
    """
    selector = metric + where(matchers)
    return _differences(f"{selector}[1d] offset -1d", f"last_over_time({selector}[1d])", by)


def _differences(window: str, before: str, by: str) -> str:
    first = f"min_over_time({window})"
    return (
        f"sum{_by(by)}(last_over_time({window}) - ({before} <= {first} or {first}) "
        f"unless resets({window}) > 0 or increase({window}))"
    )


def today(gauge: str, by: str, matchers: str = "") -> str:
    """A gauge that starts again at midnight UTC, as it was last reported today.

    The second half answers while its reporter is down: yesterday's last value is never taken
    for today's.
    """
    selector = gauge + where(matchers)
    return (
        f"max by ({by}) (({selector} and timestamp({selector}) >= {MIDNIGHT}) or "
        f"(last_over_time({selector}[1d]) and "
        # Each look sees five minutes back, hence every five minutes.
        f"max_over_time(timestamp({selector})[1d:5m]) >= {MIDNIGHT}))"
    )


def top(n: int, expression: str, ranking: str, on: str) -> str:
    """The ``n`` series of ``expression`` that ``ranking`` puts first, the same at every step.

    ``ranking`` is taken at the end of the time range: `topk` alone would choose anew at each
    step and draw many more lines than ``n``.
    """
    return f"{expression} and on ({on}) topk({n}, {ranking})"


def answering(matchers: str = "") -> str:
    """1 or 0 for each target; ``at`` is its address as far as a graph's margin has room for it.

    That is 20 letters beside the service's name: on this machine, and in a compose network where
    the host is the service, the port says it.
    """
    targets = f"min by (job, instance) (up{where(matchers)})"
    whole = f'label_replace({targets}, "at", "$1", "instance", "(.*)")'
    return f'label_replace({whole}, "at", "$1", "instance", "(?:127[.]0[.]0[.]1|[a-z-]+)(:.*)")'


def or_zero(expression: str) -> str:
    """0 where ``expression``, which has no labels, has no series."""
    return f"{expression} or vector(0)"


def share(part: str, whole: str) -> str:
    """``part`` of ``whole`` (both without labels or with the same), 0 where only ``whole`` is."""
    return f"(({part}) or 0 * ({whole})) / (({whole}) > 0)"


def greater(left: str, right: str) -> str:
    """The greater of two numbers without labels; 0 stands for a missing one."""
    return f"({or_zero(left)}) > ({or_zero(right)}) or ({or_zero(right)})"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else " "


def indent(text: str, by: int = 2) -> str:
    """``text`` with every line moved right."""
    return "\n".join(" " * by + line for line in text.splitlines())
