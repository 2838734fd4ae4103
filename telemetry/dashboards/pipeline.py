"""Pipeline health: the Collector, Prometheus, Loki, and the machine they run on."""

from __future__ import annotations

from telemetry.dashboards import pipeline_queries as queries
from telemetry.dashboards.dashboard import Band, Dashboard, link
from telemetry.dashboards.panel_ids import OVERVIEW, PIPELINE
from telemetry.dashboards.panels import lines, panel, stat, timeline
from telemetry.dashboards.style import (
    ANSWERING,
    ANY_IS_RED,
    CALM,
    GREEN,
    ORANGE,
    RED,
    Scale,
    fixed,
    override,
    override_like,
)
from telemetry.dashboards.targets import Ask


def build() -> Dashboard:
    """Declare the dashboard."""
    return Dashboard(
        PIPELINE,
        "Pipeline health",
        "Does telemetry itself arrive, whole and in time? The Collector, Prometheus, Loki, and "
        "the machine they run on.",
        [_now(), _loss(), _collector(), _prometheus(), _loki(), _host()],
        links=[link("Overview", OVERVIEW, "All containers")],
        events=False,
    )


def _now() -> Band:
    loss = panel(
        "pipeline.loss_count",
        "Lost",
        "Items refused, dropped or not delivered in the last 10 minutes, anywhere on the way. "
        "Any alerts.",
        stat(Ask(queries.LOSS_COUNT), scale=Scale(steps=ANY_IS_RED, decimals=0)),
    )
    down = panel(
        "pipeline.targets_down",
        "Not answering",
        "Services and engines that are meant to run and do not answer Prometheus' scrapes.",
        stat(Ask(queries.TARGETS_DOWN, instant=True), scale=Scale(steps=ANY_IS_RED, decimals=0)),
    )
    filling = ((0, GREEN), (0.5, ORANGE), (0.8, RED))
    queue = panel(
        "pipeline.queue_now",
        "Fullest queue",
        "Of the Collector's queues on disk, the fullest. It fills while a store is away; full, "
        "senders are held back.",
        stat(
            Ask(queries.QUEUE_FILL_NOW),
            scale=Scale("percentunit", filling, least=0, most=1, decimals=0),
        ),
    )
    old = ((0, GREEN), (30, ORANGE), (120, RED))
    age = panel(
        "pipeline.age_now",
        "Oldest news",
        "Seconds since the newest number of the service that has been silent longest reached "
        "Prometheus.",
        stat(Ask(queries.AGE_NOW), scale=Scale("s", old, least=0, decimals=0)),
    )
    used = ((0, GREEN), (0.75, ORANGE), (0.85, RED))
    disk = panel(
        "pipeline.disk_now",
        "Fullest disk",
        "Used, of what an ordinary user can use. Above 85 % alerts.",
        stat(Ask(queries.DISK_NOW), scale=Scale("percentunit", used, least=0, most=1, decimals=0)),
    )
    tight = ((0, GREEN), (0.8, ORANGE), (0.95, RED))
    memory = panel(
        "pipeline.memory_now",
        "Host memory",
        "Used, of the machine's memory.",
        stat(
            Ask(queries.MEMORY_NOW), scale=Scale("percentunit", tight, least=0, most=1, decimals=0)
        ),
    )
    return Band(4, [loss, down, queue, age, disk, memory])


def _loss() -> Band:
    loss = panel(
        "pipeline.loss",
        "Refused, dropped, undelivered",
        "Within the 10 minutes before, by counter and job: in the apps, the Collector, the "
        "stores, and on the way to people. Anything here alerts.",
        lines(
            Ask(queries.LOSS, "{{job}} {{metric}}"),
            scale=Scale(least=0, decimals=0, empty="nothing lost"),
        ),
    )
    dropped = panel(
        "pipeline.dropped",
        "Dropped in the apps",
        "What the library itself dropped within the 5 minutes before, by signal and reason; "
        "and interaction log lines that could not be written.",
        lines(
            Ask(queries.DROPPED, "{{job}} {{signal}} {{reason}}"),
            Ask(queries.INTERACTION_FAILURES, "interaction log {{reason}}"),
            scale=Scale(least=0, decimals=0),
        ),
    )
    up = panel(
        "pipeline.up",
        "Answering",
        "Whether what is meant to run answers Prometheus' scrapes: services and engines.",
        timeline(
            Ask(queries.TARGETS, "{{at}} {{job}}"),
            scale=Scale(steps=((0, RED), (1, GREEN)), texts=ANSWERING, decimals=0),
        ),
    )
    return Band(8, [loss, dropped, up])


def _collector() -> Band:
    accepted = panel(
        "pipeline.accepted",
        "Accepted",
        "Metric points and log records a second, by receiver.",
        lines(Ask(queries.ACCEPTED, "{{receiver}} {{kind}}"), scale=Scale("ops", least=0)),
    )
    sent = panel(
        "pipeline.sent",
        "Sent",
        "Metric points and log records a second, by exporter. Less than was accepted means "
        "that the queue grows.",
        lines(Ask(queries.SENT, "{{exporter}} {{kind}}"), scale=Scale("ops", least=0)),
    )
    queue = panel(
        "pipeline.queue",
        "Queues",
        "How full each exporter's queue on disk is. Above 80 % alerts.",
        lines(
            Ask(queries.QUEUE_FILL, "{{exporter}}"),
            scale=Scale("percentunit", ((0, GREEN), (0.8, ORANGE)), least=0, most=1),
            limits=True,
        ),
    )
    age = panel(
        "pipeline.age",
        "Delay",
        "Seconds since each service's newest number reached Prometheus; about the export "
        "interval when all is well.",
        lines(Ask(queries.AGE, "{{job}}"), scale=Scale("s", least=0)),
    )
    memory = panel(
        "pipeline.collector_memory",
        "Memory",
        "Resident memory of the Collector; near its limit it refuses data.",
        lines(Ask(queries.COLLECTOR_MEMORY, "{{job}}"), scale=Scale("bytes", least=0)),
    )
    shown = [accepted, sent, queue, age, memory]
    return Band(7, shown, widths=[5, 5, 5, 5, 4], title="Collector")


def _prometheus() -> Band:
    series = panel(
        "pipeline.prometheus_series",
        "Series",
        "Series in memory. Steady growth means a label with too many values.",
        lines(Ask(queries.SERIES, "series"), scale=Scale(least=0)),
    )
    samples = panel(
        "pipeline.prometheus_samples",
        "Samples",
        "Stored a second.",
        lines(Ask(queries.SAMPLES, "{{type}}"), scale=Scale("ops", least=0)),
    )
    rejected = panel(
        "pipeline.prometheus_rejected",
        "Rejected samples",
        "A second, by reason: what came too late or out of order.",
        lines(Ask(queries.REJECTED, "{{reason}}"), scale=Scale("ops", least=0)),
    )
    rules = panel(
        "pipeline.rules",
        "Alert rules",
        "Evaluations that failed a second, and the slowest rule group's duration (right axis). "
        "Empty where Grafana evaluates the rules.",
        lines(
            Ask(queries.RULE_FAILURES, "failures"),
            Ask(queries.RULE_DURATION, "slowest group"),
            scale=Scale("ops", least=0, empty="Grafana evaluates"),
            overrides=[override("slowest group", unit="s", custom__axisPlacement="right")],
        ),
    )
    storage = panel(
        "pipeline.storage",
        "Storage",
        "Bytes on disk: blocks, head, write-ahead log.",
        lines(
            Ask(queries.STORAGE_BLOCKS, "blocks"),
            Ask(queries.STORAGE_HEAD, "head"),
            Ask(queries.STORAGE_WAL, "write-ahead log"),
            scale=Scale("bytes", least=0),
            stacked=True,
        ),
    )
    scrapes = panel(
        "pipeline.scrapes",
        "Scrape duration",
        "How long the slowest scrape of each job took.",
        lines(Ask(queries.SCRAPE_DURATION, "{{job}}"), scale=Scale("s", least=0)),
    )
    return Band(7, [series, samples, rejected, rules, storage, scrapes], title="Prometheus")


def _loki() -> Band:
    received = panel(
        "pipeline.loki_bytes",
        "Logs received",
        "Bytes a second, and lines a second (right axis).",
        lines(
            Ask(queries.LOKI_BYTES, "bytes"),
            Ask(queries.LOKI_LINES, "lines"),
            scale=Scale("Bps", least=0),
            overrides=[override("lines", unit="ops", custom__axisPlacement="right")],
        ),
    )
    discarded = panel(
        "pipeline.loki_discarded",
        "Discarded lines",
        "A second, by reason.",
        lines(
            Ask(queries.LOKI_DISCARDED, "{{reason}}"),
            scale=Scale("ops", least=0, empty="none discarded"),
        ),
    )
    latency = panel(
        "pipeline.loki_latency",
        "Request duration",
        "Within which 95 % of Loki's requests were answered, by route.",
        lines(Ask(queries.LOKI_P95, "{{route}}"), scale=Scale("s", least=0)),
    )
    memory = panel(
        "pipeline.engine_memory",
        "Engine memory",
        "Resident memory of Prometheus, Loki, and Alertmanager or Grafana.",
        lines(Ask(queries.ENGINE_MEMORY, "{{job}}"), scale=Scale("bytes", least=0)),
    )
    notices = panel(
        "pipeline.notices",
        "Notifications",
        "Sent a minute, by channel, and those that failed, by Alertmanager, or by Grafana where "
        "it evaluates (9.4 counts none).",
        lines(
            Ask(queries.NOTIFIED, "{{integration}}"),
            Ask(queries.NOTIFY_FAILED, "{{integration}} failed"),
            scale=Scale("opm", least=0, empty="none counted"),
            overrides=[override_like("/ failed$/", color=fixed(RED))],
        ),
    )
    shown = [received, discarded, latency, memory, notices]
    return Band(7, shown, widths=[5, 5, 5, 5, 4], title="Loki and Alertmanager")


def _host() -> Band:
    cpu = panel(
        "pipeline.cpu",
        "CPU",
        "Share of all cores, by what they do.",
        lines(
            Ask(queries.CPU, "{{instance}} {{state}}"),
            scale=Scale("percentunit", CALM, least=0, most=1),
            stacked=True,
        ),
    )
    memory = panel(
        "pipeline.memory",
        "Memory",
        "By use.",
        lines(
            Ask(queries.MEMORY, "{{instance}} {{state}}"),
            scale=Scale("bytes", CALM, least=0),
            stacked=True,
        ),
    )
    disk = panel(
        "pipeline.disk",
        "Disk",
        "Used, of what an ordinary user can use, by file system. Above 85 %, or full within 24 "
        "hours at the present rate, alerts.",
        lines(
            Ask(queries.DISK, "{{instance}} {{mountpoint}}"),
            scale=Scale("percentunit", ((0, GREEN), (0.85, ORANGE)), least=0, most=1),
            limits=True,
        ),
    )
    return Band(8, [cpu, memory, disk], title="Host")
