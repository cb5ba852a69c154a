"""A TCP link between a client and a server, which can be slow, cut or frozen."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

_CHUNK_BYTES = 64 * 1024


class Link:
    """A proxy to one server port; see `Link.to`.

    Attributes:
        url: Where it listens.
        port: The server's port, for the next connections.
        listens: Whether `heard` is wanted.
        heard: What the server has sent, passed on or held back.
        held_bytes: How much was held back.
        most_bytes: How much of the server's passes on each connection before nothing more does; ``None`` for all.
    """

    def __init__(self, port: int, delay_s: Callable[[], float] | None) -> None:
        self.port = port
        self._delay_s = delay_s
        self._open: set[asyncio.Task[None]] = set()
        self._frozen: set[asyncio.Task[None]] = set()
        self._freezes_new = False
        self._servers_held: set[asyncio.Task[None]] = set()
        self._clients_held: set[asyncio.Task[None]] = set()
        self._holding: set[asyncio.Task[None]] | None = None
        self._held_pattern = b""
        self.url = ""
        self.listens = False
        self.heard = bytearray()
        self.held_bytes = 0
        self.most_bytes: int | None = None

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int, delay_s: Callable[[], float] | None = None) -> AsyncIterator[Link]:
        """Listen on a free port and pass everything on to ``port``, each chunk after ``delay_s()``."""
        link = cls(port, delay_s)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            listener.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # asyncio does not for a socket it is given
            link.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            loop = asyncio.get_running_loop()
            loop.add_reader(listener, link._accept, listener)
            try:
                yield link
            finally:
                loop.remove_reader(listener)
                link.cut()
                await asyncio.gather(*link._open, return_exceptions=True)

    def freeze(self, *, new: bool = False) -> None:
        """Pass nothing more on the connections that are open now, not even their end; nor on new ones."""
        self._frozen |= self._open
        self._freezes_new = new

    def hold(self, pattern: bytes = b"", *, clients: bool = False) -> None:
        """Hold back what the server sends from now on, until all is `cut`; or what clients send instead.

        Args:
            pattern: A regular expression; chunks in which it is not found pass.
            clients: Whether it is what clients send.
        """
        self._held_pattern = pattern
        self._holding = self._clients_held if clients else self._servers_held
        self._holding |= self._open

    def cut(self) -> None:
        """Abort the connections that are open now; on new ones nothing is held back."""
        self._holding = None
        for task in self._open:
            task.cancel()

    def _accept(self, listener: socket.socket) -> None:
        # Not by asyncio's server or `sock_accept`: closed or cancelled while a connection comes, both leak it.
        try:
            near, _ = listener.accept()
        except BlockingIOError:
            return
        near.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._join(near))
        self._open.add(task)
        if self._freezes_new:
            self._frozen.add(task)
        if self._holding is not None:
            self._holding.add(task)
        task.add_done_callback(partial(self._forget, near))

    def _forget(self, near: socket.socket, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._frozen.discard(task)
        self._servers_held.discard(task)
        self._clients_held.discard(task)
        near.close()

    async def _join(self, near: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        reader, writer = await asyncio.open_connection(sock=near)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(task, reader, far_writer))
                    group.create_task(self._pump(task, far_reader, writer, is_servers=True))
            finally:
                far_writer.transport.abort()
        except* OSError:
            pass  # nobody listens on the other side, or an end was reset: the other one sees it end
        finally:
            writer.transport.abort()

    async def _pump(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_servers: bool = False,
    ) -> None:
        passed = 0
        while chunk := await reader.read(_CHUNK_BYTES):
            if is_servers and self.listens:
                self.heard += chunk
            passed += len(chunk)
            if is_servers and self.most_bytes is not None and passed > self.most_bytes:
                self._frozen.add(task)
            held = self._servers_held if is_servers else self._clients_held
            if task in held and re.search(self._held_pattern, chunk):
                self.held_bytes += len(chunk)
                continue
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
