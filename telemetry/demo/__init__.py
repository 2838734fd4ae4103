"""`telemetry demo`: the whole stack with things happening in it.

A real third-party app under traffic, people who chat, users who spend (on a simulated model,
which says so wherever it shows), containers that die. What it prints at its end is asked of
Prometheus, Loki and the ledger, not of itself.
"""
