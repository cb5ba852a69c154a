"""A TCP link between a client and a server, which can be slow, cut or frozen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_CHUNK_BYTES = 64 * 1024


class Link:
    """A proxy to one server port; see `Link.to`."""

    def __init__(self, port: int, delay_s: Callable[[], float] | None) -> None:
        self._port = port
        self._delay_s = delay_s
        self._open: set[asyncio.Task[None]] = set()
        self._frozen: set[asyncio.Task[None]] = set()
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int, delay_s: Callable[[], float] | None = None) -> AsyncIterator[Link]:
        """Listen on a free port and pass everything on to ``port``, each chunk after ``delay_s()``."""
        link = cls(port, delay_s)
        server = await asyncio.start_server(link._accept, "127.0.0.1", 0)
        link.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield link
        finally:
            server.close()
            link.cut()
            await asyncio.gather(*link._open, return_exceptions=True)

    def freeze(self) -> None:
        """Pass nothing more on the connections that are open now, not even their end."""
        self._frozen |= self._open

    def cut(self) -> None:
        """Abort the connections that are open now."""
        for task in self._open:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._join(task, reader, writer)
        except (asyncio.CancelledError, OSError):
            pass  # cut, or nobody listens on the other side: either way the client sees its end
        finally:
            writer.transport.abort()
            self._open.discard(task)
            self._frozen.discard(task)

    async def _join(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(task, reader, far_writer))
                group.create_task(self._pump(task, far_reader, writer))
        except* OSError:
            pass
        finally:
            far_writer.transport.abort()

    async def _pump(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await self._thaw(task)
            if self._delay_s is not None:
                await asyncio.sleep(self._delay_s())
            writer.write(chunk)
            await writer.drain()
        await self._thaw(task)
        if writer.can_write_eof():
            writer.write_eof()

    async def _thaw(self, task: asyncio.Task[None]) -> None:
        if task in self._frozen:
            await asyncio.Event().wait()
