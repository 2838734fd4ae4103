"""The ledger as the proxy uses it: every call, its reservation and its cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from telemetry.errors import TelemetryError
from telemetry.services.proxy.call import Call
from telemetry.services.proxy.ledger import schema
from telemetry.services.proxy.ledger.call_ids import now_ms, text
from telemetry.services.proxy.ledger.migrations import open_ledger
from telemetry.services.proxy.ledger.operations import OTHER, Reserve, Settle, Verdict
from telemetry.services.proxy.ledger.stores import StoreError, parse_url
from telemetry.services.proxy.ledger.writer import Writer
from telemetry.services.proxy.pricing.money import usd

# Model names that metrics show: several times what any provider has, chosen by judgement, not
# measured. Some servers answer for any name (llama.cpp, LM Studio), so a client could otherwise
# make any number of series.
MOST_MODELS = 500


class Ledger:
    """The ledger, for one process.

    Args:
        url: sqlite:///path or postgresql://….
        clock: ms since the epoch.
    """

    def __init__(self, url: str, clock: Callable[[], int] = now_ms) -> None:
        self._url = parse_url(url)
        self._clock = clock
        self.engine = open_ledger(self._url)
        self._writer = Writer(self._url, clock)
        self._stopped = False
        self._answered: set[str] = set()

    def start(self) -> None:
        """Start the writer; blocks until the ledger is open.

        Raises:
            TelemetryError: it can't be opened.
        """
        try:
            self._writer.start()
            with self.engine.connect() as connection:
                self._answered.update(connection.scalars(select(schema.series.c.model).distinct()))
        except (StoreError, SQLAlchemyError) as error:
            raise TelemetryError(
                f"the ledger can't be opened: {error}",
                remedy="check TELEMETRY_LEDGER_URL, the disk's space and the database server",
                exit_code=74,
            ) from error

    def stop(self) -> None:
        """Write what is left and close."""
        self._writer.stop()
        self._stopped = True
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with; after `stop` too, as the last export comes after it."""
        with self.engine.connect() as connection:
            yield connection
        if self._stopped:
            self.engine.dispose()

    @property
    def problem(self) -> str:
        """What keeps the ledger from being written, ``""`` if nothing does."""
        return self._writer.problem

    @property
    def leads(self) -> bool:
        """Whether this process reports the ledger's numbers."""
        return self._writer.leads

    def label(self, model: str, *, answered: bool) -> str:
        """Return a model's name as metrics show it.

        A name comes from a client and may be any text, even a priced one, since prices match the
        beginning of names; and each name is a series forever. So a name is shown only after a
        provider has answered for it, in this process or in the ledger as it was at the start,
        and only `MOST_MODELS` of them are.

        Args:
            model: as in the request to the provider.
            answered: whether a provider has just answered for it.
        """
        if answered and len(self._answered) < MOST_MODELS:
            self._answered.add(model)
        return model if model in self._answered else OTHER

    async def reserve(self, call: Call, *, lasts_ms: int, wait_ms: int) -> Verdict:
        """Reserve the maximum of a call.

        Args:
            call: the call, with the most that it can cost.
            lasts_ms: after which time its reservation is void.
            wait_ms: how long it waits if only open reservations prevent it.

        Raises:
            LedgerUnavailableError: the ledger can't be written.
        """
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._writer.reserve(Reserve(call, lasts_ms, self._clock() + wait_ms, future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                # It was admitted in the same turn of the event loop that cancelled its task.
                self._writer.give_back((future.result(),))
            raise

    def settle(self, settle: Settle) -> None:
        """Charge a call that has ended. Returns at once; retried until it is written."""
        settle.ended_ms = self._clock()
        self._writer.settle(settle)

    def settled(self, timeout_s: float = 5.0) -> bool:
        """Block until everything queued so far is written; False if it isn't in time."""
        return self._writer.settled(timeout_s)

    def call(self, number: int) -> dict[str, Any] | None:
        """Return one call as the API shows it, None if there is no such call.

        Its ``status`` is ``open`` until it is settled. Input tokens are those neither read from
        nor written to a cache.
        """
        with self.engine.connect() as connection:
            row = connection.execute(
                select(schema.calls).where(schema.calls.c.id == number)
            ).one_or_none()
        if row is None:
            return None
        return {
            "id": text(row.id),
            "user_id": row.user_id,
            "model": row.model,
            "provider": row.provider,
            "status": row.status,
            "http_status": row.http_status,
            "tokens": {
                "input": row.input or 0,
                "output": row.output or 0,
                "cache_read": row.cache_read or 0,
                "cache_write": (row.cache_write or 0) + (row.cache_write_1h or 0),
                "reasoning": row.reasoning or 0,
            },
            "cost_usd": usd(row.cost or 0),
            "priced": bool(row.priced),
            "estimated": bool(row.estimated),
            "price_version": row.price_version,
            "started_ms": row.started_ms,
            "ended_ms": row.ended_ms,
            "trace_id": row.trace_id,
        }
