"""What a process prints, kept in a few files of a size."""

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
LAST_WORDS_S = 1.0  # to read what is left once a process has ended


class Output(RotatingFileHandler):
    """The output of one process, in chunks as they come.

    Args:
        folder: the state folder.
        name: the process.
    """

    terminator = ""

    def __init__(self, folder: StateFolder, name: str) -> None:
        path = folder.output / f"{name}.log"
        super().__init__(path, maxBytes=OUTPUT_BYTES, backupCount=OUTPUT_FILES - 1)

    def write(self, text: str) -> None:
        """Append ``text``."""
        self.emit(logging.makeLogRecord({"msg": text}))

    def begin_run(self) -> None:
        """Say that the process is being started now."""
        self.write(f"{STARTED} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n")

    @contextlib.asynccontextmanager
    async def taking(self) -> AsyncIterator[int]:
        """The writing end of a pipe, to be given away, whose contents are kept.

        Not asyncio's own: with that, `wait()` also waits for whoever else has the pipe open.
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
            await asyncio.wait({keeping}, timeout=LAST_WORDS_S)
        finally:
            keeping.cancel()
            transport.close()
