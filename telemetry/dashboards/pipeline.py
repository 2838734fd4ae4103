"""Pipeline health: the Collector, Prometheus, Loki, and the machine they run on."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from telemetry.dashboards import pipeline_queries
from telemetry.dashboards.dashboard import Band, link
from telemetry.dashboards.dashboard import build as frame
from telemetry.dashboards.overview import ANY_IS_RED
from telemetry.dashboards.panel_ids import OVERVIEW, PIPELINE
from telemetry.dashboards.panels import About, lines, stat_panel, timeline
from telemetry.dashboards.services import ANSWERING
from telemetry.dashboards.style import CALM, GREEN, ORANGE, RED, override, override_like
from telemetry.dashboards.targets import Ask

_FILL = ((0, GREEN), (0.5, ORANGE), (0.8, RED))
_DISK = ((0, GREEN), (0.75, ORANGE), (0.85, RED))


def build() -> Dashboard:
    """The dashboard."""
    return frame(
        PIPELINE,
        "Does telemetry itself arrive, whole and in time? The Collector, Prometheus, Loki, and "
        "the machine they run on.",
        [_now(), _loss(), _collector(), _prometheus(), _loki(), _host()],
        links=[link("Overview", OVERVIEW, "All containers")],
        events=False,
    )


def _now() -> Band:
    loss = About(
        "pipeline.loss_count", "Lost",
        "Items refused, dropped or not delivered in the last 10 minutes, anywhere on the way. "
        "Any alerts.", steps=ANY_IS_RED, decimals=0,
    )  # fmt: skip
    down = About(
        "pipeline.targets_down", "Not answering",
        "Services and engines that are meant to run and do not answer Prometheus' scrapes.",
        steps=ANY_IS_RED, decimals=0,
    )  # fmt: skip
    queue = About(
        "pipeline.queue_now", "Fullest queue",
        "Of the Collector's queues on disk, the fullest. It fills while a store is away; full, "
        "senders are held back.", "percentunit", _FILL, least=0, most=1, decimals=0,
    )  # fmt: skip
    age = About(
        "pipeline.age_now", "Oldest news",
        "Seconds since the newest number of the service that has been silent longest reached "
        "Prometheus.", "s", ((0, GREEN), (30, ORANGE), (120, RED)), least=0, decimals=0,
    )  # fmt: skip
    disk = About(
        "pipeline.disk_now", "Fullest disk",
        "Used, of what an ordinary user can use. Above 85 % alerts.", "percentunit", _DISK,
        least=0, most=1, decimals=0,
    )  # fmt: skip
    memory = About(
        "pipeline.memory_now", "Host memory", "Used, of the machine's memory.", "percentunit",
        ((0, GREEN), (0.8, ORANGE), (0.95, RED)), least=0, most=1, decimals=0,
    )  # fmt: skip
    return Band(
        4,
        [
            (4, stat_panel(loss, Ask(pipeline_queries.LOSS_COUNT))),
            (4, stat_panel(down, Ask(pipeline_queries.TARGETS_DOWN, instant=True))),
            (4, stat_panel(queue, Ask(pipeline_queries.QUEUE_FILL_NOW))),
            (4, stat_panel(age, Ask(pipeline_queries.AGE_NOW))),
            (4, stat_panel(disk, Ask(pipeline_queries.DISK_NOW))),
            (4, stat_panel(memory, Ask(pipeline_queries.MEMORY_NOW))),
        ],
    )


def _loss() -> Band:
    loss = About(
        "pipeline.loss", "Refused, dropped, undelivered",
        "Within the 10 minutes before, by counter and job: in the apps, the Collector, the "
        "stores, and on the way to people. Anything here alerts.", least=0, decimals=0,
        empty="nothing lost",
    )  # fmt: skip
    dropped = About(
        "pipeline.dropped", "Dropped in the apps",
        "What the library itself dropped within the 5 minutes before, by signal and reason; "
        "and interaction log lines that could not be written.", least=0, decimals=0,
    )  # fmt: skip
    up = About(
        "pipeline.up", "Answering",
        "Whether what is meant to run answers Prometheus' scrapes: services and engines.",
        steps=((0, RED), (1, GREEN)), mappings=ANSWERING, decimals=0,
    )  # fmt: skip
    return Band(
        8,
        [
            (8, lines(loss, Ask(pipeline_queries.LOSS, "{{job}} {{metric}}"))),
            (
                8,
                lines(
                    dropped,
                    Ask(pipeline_queries.DROPPED, "{{job}} {{signal}} {{reason}}"),
                    Ask(pipeline_queries.INTERACTION_FAILURES, "interaction log {{reason}}"),
                ),
            ),
            (8, timeline(up, Ask(pipeline_queries.TARGETS, "{{at}} {{job}}"))),
        ],
    )


def _collector() -> Band:
    accepted = About(
        "pipeline.accepted", "Accepted",
        "Metric points and log records a second, by receiver.", "ops", least=0,
    )  # fmt: skip
    sent = About(
        "pipeline.sent", "Sent",
        "Metric points and log records a second, by exporter. Less than was accepted means "
        "that the queue grows.", "ops", least=0,
    )  # fmt: skip
    queue = About(
        "pipeline.queue", "Queues",
        "How full each exporter's queue on disk is. Above 80 % alerts.", "percentunit",
        ((0, GREEN), (0.8, ORANGE)), least=0, most=1,
    )  # fmt: skip
    age = About(
        "pipeline.age", "Delay",
        "Seconds since each service's newest number reached Prometheus; about the export "
        "interval when all is well.", "s", least=0,
    )  # fmt: skip
    memory = About(
        "pipeline.collector_memory", "Memory",
        "Resident memory of the Collector; near its limit it refuses data.", "bytes", least=0,
    )  # fmt: skip
    return Band(
        7,
        [
            (5, lines(accepted, Ask(pipeline_queries.ACCEPTED, "{{receiver}} {{kind}}"))),
            (5, lines(sent, Ask(pipeline_queries.SENT, "{{exporter}} {{kind}}"))),
            (5, lines(queue, Ask(pipeline_queries.QUEUE_FILL, "{{exporter}}"), limits=True)),
            (5, lines(age, Ask(pipeline_queries.AGE, "{{job}}"))),
            (4, lines(memory, Ask(pipeline_queries.COLLECTOR_MEMORY, "{{job}}"))),
        ],
        "Collector",
    )


def _prometheus() -> Band:
    series = About(
        "pipeline.prometheus_series", "Series",
        "Series in memory. Steady growth means a label with too many values.", least=0,
    )  # fmt: skip
    samples = About(
        "pipeline.prometheus_samples", "Samples", "Stored a second.", "ops", least=0,
    )  # fmt: skip
    rejected = About(
        "pipeline.prometheus_rejected", "Rejected samples",
        "A second, by reason: what came too late or out of order.", "ops", least=0,
    )  # fmt: skip
    rules = About(
        "pipeline.rules", "Alert rules",
        "Evaluations that failed a second, and the slowest rule group's duration (right axis). "
        "Empty where Grafana evaluates the rules.",
        "ops", least=0, empty="Grafana evaluates",
    )  # fmt: skip
    storage = About(
        "pipeline.storage", "Storage", "Bytes on disk: blocks, head, write-ahead log.", "bytes",
        least=0,
    )  # fmt: skip
    scrapes = About(
        "pipeline.scrapes", "Scrape duration", "How long the slowest scrape of each job took.",
        "s", least=0,
    )  # fmt: skip
    return Band(
        7,
        [
            (4, lines(series, Ask(pipeline_queries.SERIES, "series"))),
            (4, lines(samples, Ask(pipeline_queries.SAMPLES, "{{type}}"))),
            (4, lines(rejected, Ask(pipeline_queries.REJECTED, "{{reason}}"))),
            (
                4,
                lines(
                    rules,
                    Ask(pipeline_queries.RULE_FAILURES, "failures"),
                    Ask(pipeline_queries.RULE_DURATION, "slowest group"),
                    overrides=[override("slowest group", unit="s", custom__axisPlacement="right")],
                ),
            ),
            (
                4,
                lines(
                    storage,
                    Ask(pipeline_queries.STORAGE_BLOCKS, "blocks"),
                    Ask(pipeline_queries.STORAGE_HEAD, "head"),
                    Ask(pipeline_queries.STORAGE_WAL, "write-ahead log"),
                    stacked=True,
                ),
            ),
            (4, lines(scrapes, Ask(pipeline_queries.SCRAPE_DURATION, "{{job}}"))),
        ],
        "Prometheus",
    )


def _loki() -> Band:
    received = About(
        "pipeline.loki_bytes", "Logs received",
        "Bytes a second, and lines a second (right axis).", "Bps", least=0,
    )  # fmt: skip
    discarded = About(
        "pipeline.loki_discarded", "Discarded lines", "A second, by reason.", "ops", least=0,
        empty="none discarded",
    )  # fmt: skip
    latency = About(
        "pipeline.loki_latency", "Request duration",
        "Within which 95 % of Loki's requests were answered, by route.", "s", least=0,
    )  # fmt: skip
    memory = About(
        "pipeline.engine_memory", "Engine memory",
        "Resident memory of Prometheus, Loki, and Alertmanager or Grafana.", "bytes", least=0,
    )  # fmt: skip
    notices = About(
        "pipeline.notices", "Notifications",
        "Sent a minute, by channel, and those that failed, by Alertmanager, or by Grafana where "
        "it evaluates (9.4 counts none).", "opm", least=0, empty="none counted",
    )  # fmt: skip
    return Band(
        7,
        [
            (
                5,
                lines(
                    received,
                    Ask(pipeline_queries.LOKI_BYTES, "bytes"),
                    Ask(pipeline_queries.LOKI_LINES, "lines"),
                    overrides=[override("lines", unit="ops", custom__axisPlacement="right")],
                ),
            ),
            (5, lines(discarded, Ask(pipeline_queries.LOKI_DISCARDED, "{{reason}}"))),
            (5, lines(latency, Ask(pipeline_queries.LOKI_P95, "{{route}}"))),
            (5, lines(memory, Ask(pipeline_queries.ENGINE_MEMORY, "{{job}}"))),
            (
                4,
                lines(
                    notices,
                    Ask(pipeline_queries.NOTIFIED, "{{integration}}"),
                    Ask(pipeline_queries.NOTIFY_FAILED, "{{integration}} failed"),
                    overrides=[
                        override_like("/ failed$/", color={"mode": "fixed", "fixedColor": RED})
                    ],
                ),
            ),
        ],
        "Loki and Alertmanager",
    )


def _host() -> Band:
    cpu = About(
        "pipeline.cpu", "CPU", "Share of all cores, by what they do.", "percentunit", CALM,
        least=0, most=1,
    )  # fmt: skip
    memory = About(
        "pipeline.memory", "Memory", "By use.", "bytes", CALM, least=0,
    )  # fmt: skip
    disk = About(
        "pipeline.disk", "Disk",
        "Used, of what an ordinary user can use, by file system. Above 85 %, or full within 24 "
        "hours at the present rate, alerts.", "percentunit", ((0, GREEN), (0.85, ORANGE)),
        least=0, most=1,
    )  # fmt: skip
    return Band(
        8,
        [
            (8, lines(cpu, Ask(pipeline_queries.CPU, "{{instance}} {{state}}"), stacked=True)),
            (
                8,
                lines(memory, Ask(pipeline_queries.MEMORY, "{{instance}} {{state}}"), stacked=True),
            ),
            (
                8,
                lines(disk, Ask(pipeline_queries.DISK, "{{instance}} {{mountpoint}}"), limits=True),
            ),
        ],
        "Host",
    )
