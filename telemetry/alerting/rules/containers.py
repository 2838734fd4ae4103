"""Alerts about containers: down, out of memory, restarting, unhealthy."""

from __future__ import annotations

from telemetry import catalog
from telemetry.alerting.rule import VALUE, Group, Rule, count
from telemetry.alerting.thresholds import Thresholds
from telemetry.promql.functions import indent, latest, rise
from telemetry.system.units import number

# A group of its own, evaluated every second: the notice of a killed container must leave within
# 3 s, without waiting for a slower rule.
EVENTS = Group("container-events", 1)
CONTAINERS = Group("containers", 5)

_UP = catalog.PLATFORM_CONTAINER_UP.prometheus
_TOTAL = catalog.PLATFORM_CONTAINERS_TOTAL.prometheus
_HEALTHY = catalog.PLATFORM_CONTAINER_HEALTHY.prometheus
_MEMORY = catalog.PLATFORM_CONTAINER_MEMORY.prometheus
_LIMIT = catalog.PLATFORM_CONTAINER_MEMORY_LIMIT.prometheus
_OOM_KILLS = catalog.PLATFORM_CONTAINER_OOM_KILLS.prometheus
_RESTARTS = catalog.PLATFORM_CONTAINER_RESTARTS.prometheus

_HANDLE = (("handle", "handle"),)

# While a platform (or host agent) reports, its values count: 0 is down, and a series that ended is
# a removed container. Once it is silent (its last samples are older than 5 minutes), its last
# value counts for an hour, or its death would resolve the alert, whether or not others report. A
# container whose series ended before its reporter's own was removed, and is left out; 30 s allow
# for samples that were exported separately.
_PRESENT = f"""\
{latest(_UP)}
or
max by (handle) (
  (
    last_over_time({_UP}[1h])
    and
    topk by (handle) (1,
      max_over_time(timestamp({_UP})[1h:1m])
      >= on (job, instance) group_left ()
      (max by (job, instance) (max_over_time(timestamp({_TOTAL})[1h:1m])) - 30)
    )
  )
  unless on (job, instance) {_TOTAL}
)"""


def _down(restarts: float) -> str:
    # In a crash loop the container runs for a moment, again and again, and each time the alert
    # would resolve and fire again. So after many restarts, only 2 minutes without a crash count as
    # running: Docker waits a minute at most before it starts a container again.
    return f"""\
(
  min by (handle) (
    min_over_time({_UP}[2m])
    and
    topk by (handle) (1, timestamp({_UP}))
  )
  and on (handle)
  (
{indent(rise(_RESTARTS, "10m"), 4)}
  ) > {number(restarts)}
)
or
{_PRESENT}"""


# A limit of 0 means no limit.
_MEMORY_SHARE = f"""\
{latest(_MEMORY)}
/
(
{indent(latest(_LIMIT))}
  > 0
)"""


def rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    """Return the container rules with these thresholds."""
    return (
        Rule(
            name="ContainerDown",
            source="prometheus",
            group=EVENTS,
            expression=_down(thresholds.restarts),
            comparison="<",
            threshold=1,
            for_s=0,
            severity="critical",
            labels=("handle",),
            summary="Container {{ .Labels.handle }} is down",
            description=(
                "Container {{ .Labels.handle }} should run but is down. "
                f'The platform reports {{{{ printf "%.0f" {VALUE} }}}} for it (1 is running).'
            ),
            value=f"{{{{ if lt {VALUE} 1.0 }}}}down{{{{ else }}}}running{{{{ end }}}}",
            panel="container.up",
            no_data="OK",
            on_error="Error",
            states_reason=(
                "No series means that no container should run. The expression and ServiceDown "
                "cover a platform that died."
            ),
            variables=_HANDLE,
        ),
        Rule(
            name="ContainerOOMKilled",
            source="prometheus",
            group=EVENTS,
            expression=rise(_OOM_KILLS, "10m"),
            comparison=">",
            threshold=0,
            for_s=0,
            severity="critical",
            labels=("handle",),
            summary="Container {{ .Labels.handle }} ran out of memory",
            description=(
                "The kernel killed processes of container {{ .Labels.handle }} because memory ran "
                f"out: {count('kill')} in the last 10 minutes."
            ),
            value=f"{count('kill')} in 10 m",
            panel="container.oom",
            no_data="OK",
            on_error="Error",
            states_reason="No series means no container; a failed query hides a critical event.",
            variables=_HANDLE,
        ),
        Rule(
            name="ContainerOOM",
            source="prometheus",
            group=CONTAINERS,
            expression=_MEMORY_SHARE,
            comparison=">",
            threshold=thresholds.memory_percent / 100,
            for_s=thresholds.memory_for_s,
            severity="critical",
            labels=("handle",),
            summary="Container {{ .Labels.handle }} is nearly out of memory",
            description=(
                f"Container {{{{ .Labels.handle }}}} uses {{{{ {VALUE} | humanizePercentage }}}} "
                f"of its memory limit, more than {number(thresholds.memory_percent)} %. "
                "At 100 % the kernel kills it."
            ),
            value=f"{{{{ {VALUE} | humanizePercentage }}}} of the limit",
            panel="container.memory",
            no_data="OK",
            on_error="Error",
            states_reason="A container without a limit has no such series.",
            variables=_HANDLE,
        ),
        Rule(
            name="ContainerRestartLoop",
            source="prometheus",
            group=CONTAINERS,
            expression=rise(_RESTARTS, "10m"),
            comparison=">",
            threshold=thresholds.restarts,
            for_s=0,
            severity="warning",
            labels=("handle",),
            summary="Container {{ .Labels.handle }} keeps restarting",
            description=(
                f'Container {{{{ .Labels.handle }}}} restarted {{{{ printf "%.0f" {VALUE} }}}} '
                f"times in the last 10 minutes, more than {number(thresholds.restarts)}, and no "
                "user requested it."
            ),
            value=f"{count('restart')} in 10 m",
            panel="container.restarts",
            no_data="OK",
            on_error="Error",
            states_reason="No series means that nothing has restarted.",
            variables=_HANDLE,
        ),
        Rule(
            name="ContainerUnhealthy",
            source="prometheus",
            group=CONTAINERS,
            expression=latest(_HEALTHY),
            comparison="<",
            threshold=1,
            for_s=thresholds.unhealthy_for_s,
            severity="warning",
            labels=("handle",),
            summary="Container {{ .Labels.handle }} is unhealthy",
            description=(
                "Container {{ .Labels.handle }} runs, but its health check fails "
                f'(the platform reports {{{{ printf "%.0f" {VALUE} }}}}, 1 is healthy).'
            ),
            value=f"{{{{ if lt {VALUE} 1.0 }}}}unhealthy{{{{ else }}}}healthy{{{{ end }}}}",
            panel="container.healthy",
            no_data="OK",
            on_error="Error",
            states_reason="A container without a health check has no such series.",
            variables=_HANDLE,
        ),
    )
