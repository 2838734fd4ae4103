"""Alert rules as data, and the notifications about them.

Rules are defined once, in ``rules/``. ``provision`` renders them for the evaluator: Grafana, or
Prometheus and Loki with Alertmanager.
"""

from telemetry.alerting.delivery import notify_directly
from telemetry.alerting.render.write import Mode, provision
from telemetry.alerting.settings import AlertSettings

__all__ = ["AlertSettings", "Mode", "notify_directly", "provision"]
