"""Gives each connection to one of several workers by chance, as the kernel does for workers that share a port."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

__all__ = ["NOTES_VARIABLE", "Spread"]

NOTES_VARIABLE = "WAYPOST_TEST_NOTES"
"""The folder in which workers note how many requests of other workers' sessions they have read."""


class Spread:
    """A proxy to the ports of several workers.

    Attributes:
        url: Where it listens.
        ports: Where the workers listen; a worker that has died is taken out.
        answered: On how many connections a worker has answered.
    """

    def __init__(self, ports: Sequence[int], rng: random.Random) -> None:
        self.url = ""
        self.ports = list(ports)
        self.answered = 0
        self._rng = rng
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def over(cls, ports: Sequence[int], rng: random.Random) -> AsyncIterator[Spread]:
        """Listen on a free port until the block ends."""
        spread = cls(ports, rng)
        listening = await asyncio.start_server(spread._join, "127.0.0.1", 0)
        spread.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        try:
            yield spread
        finally:
            listening.close()
            for task in spread._tasks:
                task.cancel()
            await asyncio.gather(*spread._tasks, return_exceptions=True)

    def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._rng.choice(self.ports)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far))
                group.create_task(self._pump_answers(far_reader, writer))
        except* OSError:
            pass  # one of the two has ended, and the other one sees it
        finally:
            writer.transport.abort()
            if far is not None:
                far.transport.abort()

    async def _pump_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if chunk := await reader.read(65_536):
            self.answered += 1
            writer.write(chunk)
        await _pump(reader, writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()
    await writer.drain()
    raise ConnectionResetError
