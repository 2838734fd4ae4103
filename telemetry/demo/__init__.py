"""The command `telemetry demo`: run the whole stack with sample activity.

The demo runs a real third-party app under traffic, users who call a simulated model (it is named
so everywhere), and containers that are killed or run out of memory. The numbers at its end come
from Prometheus, Loki and the ledger, not from the demo itself.
"""
