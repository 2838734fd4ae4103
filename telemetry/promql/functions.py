"""PromQL functions that several panels and rules need.

Two facts shape them. The series of a killed process end without a staleness marker, so its last
values remain for 5 minutes beside those of its successor. And a counter's series begins at 0, as
the library exports it, and hardly ever resets (each process has its own; the ledger's outlives
the proxy), so a difference of two values is exact, where `increase()` extrapolates: it would
read three provisionings of a minute ago as four.
"""

from __future__ import annotations

# A process exports every 5 s by our default and every 60 s by OpenTelemetry's. A value older than
# one and a half of the latter is of a process that died. Chosen by judgement, not measured.
FRESH_S = 90
RATE = "$__rate_interval"
RANGE = "$__range"
STEP = "$__interval"
MIDNIGHT = "time() - time() % 86400"


def where(*matchers: str) -> str:
    """Return a label selector, ``""`` without matchers."""
    kept = ", ".join(matcher for matcher in matchers if matcher)
    return f"{{{kept}}}" if kept else ""


def latest(metric: str, by: str = "handle", matchers: str = "") -> str:
    """Return each ``by``'s value from its newest reporter; neither max nor min would find it.

    Reporters are distinguished by all their labels: a version or environment that is promoted to
    a label changes while job and instance stay.
    """
    selector = metric + where(matchers)
    return f"max by ({by}) ({selector} and topk by ({by}) (1, timestamp({selector})))"


def fresh(metric: str, matchers: str = "") -> str:
    """Select the series of processes that still report, for a sum over processes."""
    selector = metric + where(matchers)
    return f"({selector} and timestamp({selector}) > time() - {FRESH_S})"


def rate(metric: str, by: str = "", matchers: str = "", window: str = RATE) -> str:
    """Return events a second, summed by ``by``."""
    return f"sum{_by(by)}(rate({metric}{where(matchers)}[{window}]))"


def quantile(q: float, metric: str, by: str = "", matchers: str = "", window: str = RATE) -> str:
    """Return the ``q`` quantile of a histogram, by ``by``."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, matchers, window)})"


def exact_increase(metric: str, by: str = "", matchers: str = "", window: str = RANGE) -> str:
    """Return the exact increase of counters within ``window``.

    A series' increase is its last value minus the one at the window's start. If it was not
    reported then (its reporter was off, or the series is younger) or was reset since, it is the
    last value minus the first in the window, which is 0 for a new series. For a series that was
    reset within the window it is `increase()`.
    """
    selector = metric + where(matchers)
    return _differences(f"{selector}[{window}]", f"{selector} offset {window}", by)


def rise(metric: str, window: str, by: str = "handle", matchers: str = "") -> str:
    """Return how far a counter that outlives its reporter rose within ``window``, a whole number.

    The platform and the proxy's ledger keep their counts: after a restart a counter continues,
    perhaps as a new series. `increase()` would miss what happened between the two series, and it
    extrapolates: it reads 17 in a series of two samples as 21. So this is the present value minus
    the least within the window. A first value counts from the 0 that the library exports before
    it, a counter that is high when it is first seen is not an event, and after a reset only the
    new count is taken.
    """
    least = f"min by ({by}) (min_over_time({metric}{where(matchers)}[{window}]))"
    return f"{latest(metric, by, matchers)}\n- {least}"


def recent_increase(metric: str, window: str, by: str, matchers: str = "") -> str:
    """Return the increase within ``window`` before each point, or since the previous point.

    The longer of the two: in a long time range, too, no event falls between two points.
    """
    since = exact_increase(metric, by, matchers, STEP)
    return f"({exact_increase(metric, by, matchers, window)} >= {since} or {since})"


def daily_increase(metric: str, by: str = "", matchers: str = "") -> str:
    """Return the increase within the UTC day that begins at each step (step: 1 d).

    The windows look ahead (a negative offset), so that a day's bar is at the day's start and
    today's bar is already there. Each is the difference of the values at two midnights, so the
    days add up to the total.
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
    """Return a gauge that starts again at midnight UTC, as last reported today.

    The second half answers while its reporter is down. Yesterday's last value never counts as
    today's.
    """
    selector = gauge + where(matchers)
    return (
        f"max by ({by}) (({selector} and timestamp({selector}) >= {MIDNIGHT}) or "
        f"(last_over_time({selector}[1d]) and "
        # An evaluation looks back five minutes, hence one every five minutes.
        f"max_over_time(timestamp({selector})[1d:5m]) >= {MIDNIGHT}))"
    )


def top(n: int, expression: str, ranking: str, on: str) -> str:
    """Keep the ``n`` series of ``expression`` with the highest ``ranking``, the same at each step.

    ``ranking`` is evaluated at the end of the time range: `topk` alone would choose again at each
    step, and a graph would have many more than ``n`` lines.
    """
    return f"{expression} and on ({on}) topk({n}, {ranking})"


def target_states(matchers: str = "") -> str:
    """Return 1 or 0 for each target, with its address, short enough for a graph, as ``at``.

    A graph's margin has room for 20 letters beside the service's name. On this machine, and in a
    compose network, where the host is the service, the port is enough.
    """
    targets = f"min by (job, instance) (up{where(matchers)})"
    whole = f'label_replace({targets}, "at", "$1", "instance", "(.*)")'
    return f'label_replace({whole}, "at", "$1", "instance", "(?:127[.]0[.]0[.]1|[a-z-]+)(:.*)")'


def or_zero(expression: str) -> str:
    """Return ``expression``, which has no labels, or 0 if it has no series."""
    return f"{expression} or vector(0)"


def share(part: str, whole: str) -> str:
    """Return ``part / whole`` (with the same labels, or none); 0 if there is only ``whole``."""
    return f"(({part}) or 0 * ({whole})) / (({whole}) > 0)"


def greater(left: str, right: str) -> str:
    """Return the greater of two numbers without labels; a missing one counts as 0."""
    return f"({or_zero(left)}) > ({or_zero(right)}) or ({or_zero(right)})"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else " "


def indent(text: str, by: int = 2) -> str:
    """Indent every line of ``text``."""
    return "\n".join(" " * by + line for line in text.splitlines())
