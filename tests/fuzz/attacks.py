"""Ways to throw input at a server: over bare TCP, as one request, or as a session that goes wrong at some point."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator
from random import Random

from tests.fuzz.inputs import Inputs
from tests.support.raw import join, open_polling, request_bytes, target

_PATIENCE_S = 0.15
_HANDSHAKE = re.compile(rb'sid\\?":\\?"([^"\\]+)')
_REMEMBERED = 40
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_TEXT = {"Content-Type": "text/plain"}
_BYTES = {"Content-Type": "application/octet-stream"}


class Attacker:
    """One of several that attack at the same time.

    Args:
        port: Where the server listens.
        rng: What decides on everything but time.

    Attributes:
        count: How many attacks it has made.
        last: The last bytes it has sent.
    """

    def __init__(self, port: int, rng: Random) -> None:
        self.count = 0
        self.last: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._port = port
        self._rng = rng
        self._inputs = Inputs(rng)

    async def attack(self) -> None:
        """Make one attack of any kind; what the server does about it is its own business, as long as it lives."""
        kinds = [
            self._requests,
            self._session,
            self._session,
            self._other_session,
            self._websocket,
            self._websocket,
            self._upgrade,
        ]
        with contextlib.suppress(OSError, TimeoutError, EOFError, AssertionError):
            await self._rng.choice(kinds)()
        self.count += 1

    # -- kinds ----------------------------------------------------------------------------------------------

    async def _requests(self) -> None:
        """A few requests on one connection, however they are answered."""
        async with self._connection() as (reader, writer):
            for _ in range(self._rng.randrange(1, 4)):
                body = self._inputs.payload() if self._rng.random() < 0.5 else None
                await self._write(writer, self._inputs.request(body=body))
            await self._read(reader)

    async def _session(self) -> None:
        """A polling session that joins, then posts anything."""
        async with open_polling(self._port) as raw:
            if self._rng.random() < 0.8:
                await join(raw)
            for _ in range(self._rng.randrange(1, 5)):
                body = self._inputs.payload()
                if self._rng.random() < 0.8:
                    data = request_bytes("POST", target(sid=raw.sid), body=body)
                else:
                    data = self._inputs.request(raw.sid, body if self._rng.random() < 0.7 else None)
                await self._exchange(data)

    async def _other_session(self) -> None:
        """A polling session of revision 3, of scripts and forms, or of both, that posts anything."""
        query = self._rng.choice([{"EIO": "3"}, {"EIO": "3", "b64": "1"}, {"j": "0"}, {"EIO": "3", "j": "7"}])
        async with self._connection() as (reader, writer):
            await self._write(writer, request_bytes("GET", target(**query)))
            opened = _HANDSHAKE.search(await self._read(reader))
        if opened is None:
            return
        where = target(**query, sid=opened[1].decode())
        if query.get("EIO") != "3":
            await self._exchange(request_bytes("POST", where, _FORM, self._inputs.form(b"40")))
        for _ in range(self._rng.randrange(1, 5)):
            if self._rng.random() < 0.3:
                await self._exchange(request_bytes("GET", where))
                continue
            body = self._inputs.payload_3() if query.get("EIO") == "3" else self._inputs.payload()
            if "j" in query:
                await self._exchange(request_bytes("POST", where, _FORM, self._inputs.form(body)))
            else:
                headers = self._rng.choice([_TEXT, _BYTES])
                await self._exchange(request_bytes("POST", where, headers, body))

    async def _websocket(self) -> None:
        """A WebSocket that joins, then sends anything."""
        revision = self._rng.choice("4443")
        async with self._connection() as (reader, writer):
            await self._write(writer, self._inputs.upgrade(revision=revision))
            if not await self._is_upgraded(reader):
                return
            if self._rng.random() < 0.8:
                await self._write(writer, self._inputs.frame("40"))
                await self._read(reader)
            for _ in range(self._rng.randrange(1, 12)):
                await self._write(writer, self._inputs.frame(self._inputs.packet()))
            await self._read(reader)

    async def _upgrade(self) -> None:
        """A polling session that a WebSocket takes over, or not, while requests go on."""
        async with self._connection() as (reader, writer):
            await self._write(writer, request_bytes("GET", target(), {"Connection": "keep-alive"}))
            opened = _HANDSHAKE.search(await self._read(reader))
        if opened is None:
            return
        sid = opened[1].decode()
        async with self._connection() as (reader, writer), self._connection() as (_, polling):
            await self._write(writer, self._inputs.upgrade(sid))
            for step in ("2probe", None, "5", "40", '421["echo",1]'):
                if step is None or self._rng.random() < 0.2:
                    await self._write(polling, self._inputs.request(sid))
                if step is not None and self._rng.random() < 0.9:
                    await self._write(writer, self._inputs.frame(step))
                if self._rng.random() < 0.3:
                    await self._write(writer, self._inputs.frame(self._inputs.packet()))
            await self._read(reader)

    # -- bytes ----------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            yield reader, writer
        finally:
            if self._rng.random() < 0.5:
                writer.transport.abort()
            writer.close()

    async def _exchange(self, data: bytes) -> None:
        async with self._connection() as (reader, writer):
            await self._write(writer, data)
            await self._read(reader)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        self.last.append(data)
        if self._rng.random() < 0.1:
            middle = self._rng.randrange(len(data) + 1)
            writer.write(data[:middle])
            await writer.drain()
            await asyncio.sleep(0)
            data = data[middle:]
        writer.write(data)
        await writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await reader.read(65_536)
        except TimeoutError:
            return b""

    async def _is_upgraded(self, reader: asyncio.StreamReader) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_S * 4):
                return (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return False
