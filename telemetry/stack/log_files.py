"""Write the output of a process to rotated files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler

from telemetry.stack.state_folder import STARTED, StateFolder

OUTPUT_BYTES, OUTPUT_FILES = 10 << 20, 3
LAST_OUTPUT_S = 1.0  # to read the rest of the pipe after a process has ended


class Output(RotatingFileHandler):
    """The output of one process.

    Args:
        folder: the state folder.
        name: the process' name.
    """

    terminator = ""

    def __init__(self, folder: StateFolder, name: str) -> None:
        path = folder.output / f"{name}.log"
        super().__init__(path, maxBytes=OUTPUT_BYTES, backupCount=OUTPUT_FILES - 1)

    def write(self, text: str) -> None:
        """Append ``text``."""
        self.emit(logging.makeLogRecord({"msg": text}))

    def begin_run(self) -> None:
        """Write the line that marks the start of a run."""
        self.write(f"{STARTED} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n")

    @contextlib.asynccontextmanager
    async def open_pipe(self) -> AsyncIterator[int]:
        """Open a pipe, give its writing end for a child, and write what comes through it.

        Not asyncio's PIPE: with that, `wait()` also waits for other processes that have the pipe
        open.
        """
        reader = asyncio.StreamReader()
        reading, writing = os.pipe()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
        )

        async def keep() -> None:
            while chunk := await reader.read(1 << 16):
                self.write(chunk.decode(errors="replace"))

        keeping = asyncio.create_task(keep())
        try:
            yield writing
            await asyncio.wait({keeping}, timeout=LAST_OUTPUT_S)
        finally:
            keeping.cancel()
            transport.close()
