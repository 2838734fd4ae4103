"""The ledger's tables, for its queries. Money in picodollars, times in ms since the epoch, days in
UTC.

They are created and changed by the numbered statements in `migrations` alone.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
)

metadata = MetaData()

users = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
    # Limits; NULL means unlimited.
    Column("daily_budget", BigInteger),
    Column("monthly_budget", BigInteger),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    # Raised whenever a key of the user is created or revoked: cached keys are checked again.
    Column("keys_version", BigInteger, nullable=False, default=0, server_default="0"),
    # Spent in the period named beside it; in another period, the figure is void.
    Column("day", BigInteger, nullable=False, server_default="0"),
    Column("day_spent", BigInteger, nullable=False, server_default="0"),
    Column("month", BigInteger, nullable=False, server_default="0"),
    Column("month_spent", BigInteger, nullable=False, server_default="0"),
    Column("minute", BigInteger, nullable=False, server_default="0"),
    Column("minute_requests", BigInteger, nullable=False, server_default="0"),
    Column("minute_tokens", BigInteger, nullable=False, server_default="0"),
    # Sums over the user's open reservations.
    Column("reserved", BigInteger, nullable=False, server_default="0"),
    Column("reserved_tokens", BigInteger, nullable=False, server_default="0"),
    Column("rejections", BigInteger, nullable=False, server_default="0"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, ForeignKey("users.user_id"), nullable=False, index=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("hint", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)

calls = Table(
    "calls",
    metadata,
    # Time-ordered (see call_ids.py), so that the primary key also finds a span of time.
    # SQLite: INTEGER, as that alone is the row's own number; any other type has an index more.
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    ),
    Column("user_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("worker", BigInteger, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    Column("http_status", Integer),
    Column("started_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("reserved", BigInteger, nullable=False),
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("cost", BigInteger),
    Column("priced", Boolean, nullable=False),
    # True if the provider reported no usage and the tokens are our own estimate.
    Column("estimated", Boolean),
    Column("price_version", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("input", BigInteger),
    Column("cache_read", BigInteger),
    Column("cache_write", BigInteger),
    Column("cache_write_1h", BigInteger),
    Column("output", BigInteger),
    Column("reasoning", BigInteger),
    Column("audio_input", BigInteger),
    Column("audio_output", BigInteger),
    Column("searches", BigInteger),
)

# Running totals, so that exporting the metrics doesn't read the calls.
series = Table(
    "series",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("status", Text, primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("input", BigInteger, nullable=False),
    Column("cache_read", BigInteger, nullable=False),
    Column("cache_write", BigInteger, nullable=False),
    Column("output", BigInteger, nullable=False),
    Column("reasoning", BigInteger, nullable=False),
)

# Processes that write here. One whose heartbeat stops is dead and its reservations void.
workers = Table(
    "workers",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("heartbeat_ms", BigInteger, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("worker", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)
