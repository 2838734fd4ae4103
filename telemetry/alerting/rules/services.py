"""Alerts about services: not answering, failing, falling behind."""

from __future__ import annotations

from telemetry import catalog
from telemetry.alerting.rule import VALUE, Group, Rule
from telemetry.alerting.thresholds import Thresholds
from telemetry.promql.functions import fresh
from telemetry.system.units import number

SERVICES = Group("services", 5)

_REQUESTS = catalog.HTTP_SERVER_REQUEST_DURATION.prometheus + "_count"
_STATUS = "http_response_status_code"
# A health check is not a user's request: one that reports "unhealthy" is not a failure, and
# hundreds of successful ones would hide a request that fails.
_ASKED = 'http_route!~"/(health|healthz|livez|readyz)"'
_RATE = f"{_REQUESTS}{{{_ASKED}}}[5m]"
_FAILURES = f'{_REQUESTS}{{{_ASKED}, {_STATUS}=~"5.."}}[5m]'
_CONTAINERS = catalog.PLATFORM_CONTAINERS_TOTAL.prometheus
_QUEUE = catalog.GATEWAY_DISPATCH_QUEUE_DEPTH.prometheus

_WHERE = '{{ .Labels.job }}{{ with index .Labels "handle" }} in container {{ . }}{{ end }}'
_SERVICE = (("service", "job"),)


def rules(thresholds: Thresholds) -> tuple[Rule, ...]:
    """Return the service rules with these thresholds."""
    return (
        Rule(
            name="ServiceDown",
            source="prometheus",
            group=SERVICES,
            # A target is listed only while it should run: a service stopped on purpose has no
            # `up`, and one that died has 0. Only recent scrapes count, because the series of a
            # target that left the list while Prometheus was down never ends. Prometheus always
            # scrapes at least itself, so if nothing was scraped, Prometheus is down: the
            # expression gives a 0, which must last as long as any other. Grafana's "no data"
            # would fire at every start, before the first scrape.
            #
            # A host agent has no port and so no `up`: the expression gives a 0 for an hour after
            # the agent sent nothing for 5 minutes. Only while the Collector's own series arrive:
            # without them no agent is heard, and after an outage they arrive no sooner than what
            # agents sent. This part must be last: a value before `or on ()` hides what follows.
            expression=f"""\
min by (job, instance) (up and time() - timestamp(up) < 15)
or on ()
label_replace(vector(0), "job", "prometheus", "", "")
or
0 * max by (job, instance) (
  last_over_time({_CONTAINERS}{{job="agent"}}[1h])
  unless on (job, instance) {_CONTAINERS}
  and on () system_memory_usage_bytes
)""",
            comparison="<",
            threshold=1,
            for_s=thresholds.service_down_for_s,
            severity="critical",
            labels=("job", "instance"),
            summary="{{ .Labels.job }} is not answering",
            description=(
                '{{ .Labels.job }}{{ with index .Labels "instance" }} at {{ . }}{{ end }} '
                '{{ if eq .Labels.job "agent" }}has sent nothing for 5 minutes{{ else }}does not '
                "answer Prometheus' scrapes "
                f'(up is {{{{ printf "%.0f" {VALUE} }}}}){{{{ end }}}}.'
            ),
            value=f"{{{{ if lt {VALUE} 1.0 }}}}not answering{{{{ else }}}}answering{{{{ end }}}}",
            panel="services.up",
            no_data="OK",
            on_error="Error",
            states_reason=(
                "The expression always has a value, even if nothing was scraped; a failing query "
                "means that Prometheus itself is down."
            ),
            variables=_SERVICE,
        ),
        Rule(
            name="HighErrorRate",
            source="prometheus",
            group=SERVICES,
            # Both sides are sums: a division by series would compare each 5xx with itself.
            expression=f"""\
(
  sum by (job, handle) (rate({_FAILURES}))
  /
  sum by (job, handle) (rate({_RATE}))
)
and
sum by (job, handle) (increase({_RATE})) >= {number(thresholds.error_min_requests)}""",
            comparison=">",
            threshold=thresholds.error_percent / 100,
            for_s=thresholds.error_for_s,
            severity="warning",
            labels=("job", "handle"),
            summary=f"{_WHERE} answers many requests with errors",
            description=(
                f"{_WHERE} answered {{{{ {VALUE} | humanizePercentage }}}} of its requests with a "
                f"5xx status, more than {number(thresholds.error_percent)} %."
            ),
            value=f"{{{{ {VALUE} | humanizePercentage }}}} of requests",
            panel="services.errors",
            no_data="OK",
            on_error="Error",
            states_reason="No series means no errors, or too little traffic to judge.",
            variables=_SERVICE,
        ),
        Rule(
            name="DispatchQueueBacklog",
            source="prometheus",
            group=SERVICES,
            # Only fresh series: the last depth of a gateway that died remains for 5 minutes, as
            # long as the alert waits.
            expression=f"sum by (job, handle) {fresh(_QUEUE)}",
            comparison=">",
            threshold=thresholds.queue_depth,
            for_s=thresholds.queue_for_s,
            severity="warning",
            labels=("job", "handle"),
            summary=f"Messages are piling up at {_WHERE}",
            description=(
                f'{{{{ printf "%.0f" {VALUE} }}}} messages wait for the kernel of {_WHERE}, '
                f"more than {number(thresholds.queue_depth)}."
            ),
            value=f'{{{{ printf "%.0f" {VALUE} }}}} waiting',
            panel="gateway.queue",
            no_data="OK",
            on_error="Error",
            states_reason="No series means no gateway, which ServiceDown reports.",
        ),
    )
