"""The client's end of a WebSocket: handshakes that are none, and what is in hand when the network is slow or gone."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

import waypost
from tests.client.serving import OPEN, Recorder
from tests.support.waiting import DEADLINE_S, until
from waypost.protocol.engineio import Frame
from waypost.protocol.websocket import MessageReader, accept_key, frame_close, frame_message

ACCEPTED = frame_message('40{"sid":"socket"}')
MEBIBYTE = 1 << 20


class Far:
    """The server's end of one connection, byte by byte."""

    def __init__(self, key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.key = key
        self.reader = reader
        self.writer = writer
        self._messages = MessageReader(64 * MEBIBYTE, is_masked=True)
        self._read: list[Frame] = []

    def write(self, *parts: bytes) -> None:
        """Write all of it at once."""
        self.writer.write(b"".join(parts))

    def shake(self, *parts: bytes, **changes: str | None) -> None:
        """Answer to the handshake, with other headers if need be, and write on."""
        headers: dict[str, str | None] = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec_WebSocket_Accept": accept_key(self.key),
        }
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in (headers | changes).items() if value]
        self.write(f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n".encode(), *parts)

    async def read(self) -> Frame | None:
        """Read the next message; ``None`` at the end."""
        while not self._read:
            data = await self.reader.read(MEBIBYTE)
            if not data:
                return None
            self._read += self._messages.feed(data)
            if self._messages.closing is not None and not self._read:
                return None
        return self._read.pop(0)


@asynccontextmanager
async def far(*scripts: Callable[[Far], Awaitable[None]]) -> AsyncIterator[str]:
    """Listen; the first connection goes by the first script and so on, the last one repeated. Gives the URL."""
    waiting = list(scripts)
    playing: set[asyncio.Task[None]] = set()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        playing.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
            script = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            await script(Far(key[1].decode() if key else "", reader, writer))
        finally:
            writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in playing:
            task.cancel()
        await asyncio.gather(*playing, return_exceptions=True)


# ------------------------------------------------------------------------------------------------- the handshake


def answers(*lines: str) -> Callable[[Far], Awaitable[None]]:
    async def script(connection: Far) -> None:
        connection.write("".join(f"{line}\r\n" for line in (*lines, "Content-Length: 0", "")).encode())

    return script


def shakes(**changes: str | None) -> Callable[[Far], Awaitable[None]]:
    async def script(connection: Far) -> None:
        connection.shake(frame_message(OPEN), **changes)
        await connection.read()

    return script


async def hangs_up(connection: Far) -> None:
    return


async def talks_nonsense(connection: Far) -> None:
    connection.write(b"hello\r\n\r\n")


@pytest.mark.parametrize(
    ("script", "problem", "status"),
    [
        pytest.param(answers("HTTP/1.1 403 Forbidden"), "HTTP 403", 403, id="forbidden"),
        pytest.param(answers("HTTP/1.1 503 Busy", "Retry-After: 3"), "HTTP 503", 503, id="busy"),
        pytest.param(answers("HTTP/1.1 200 OK"), "HTTP 200", 200, id="no switch"),
        pytest.param(
            answers("HTTP/1.1 301 Moved", "Location: https://new.example/x"),
            "HTTP 301, a redirect to https://new.example/x, which is not followed",
            301,
            id="redirect",
        ),
        pytest.param(shakes(Sec_WebSocket_Accept="c3Bvb2ZlZA=="), "key is wrong", None, id="wrong key"),
        pytest.param(shakes(Sec_WebSocket_Accept=None), "key is wrong", None, id="no key"),
        pytest.param(shakes(Upgrade="h2c"), "no WebSocket", None, id="another protocol"),
        pytest.param(shakes(Upgrade=None), "no WebSocket", None, id="no protocol"),
        pytest.param(shakes(Connection="close"), "no WebSocket", None, id="no upgrade"),
        pytest.param(shakes(Sec_WebSocket_Extensions="permessage-deflate"), "extension", None, id="extension"),
        pytest.param(hangs_up, "", None, id="hangs up"),
        pytest.param(talks_nonsense, "", 400, id="nonsense"),
    ],
)
async def test_a_handshake_that_is_none(
    script: Callable[[Far], Awaitable[None]], problem: str, status: int | None
) -> None:
    before = asyncio.all_tasks()
    async with far(script) as url:
        with pytest.raises(waypost.ConnectFailed) as caught:
            async with waypost.Client(url, transports=["websocket"], headers={"Authorization": "secret"}):
                pass
    assert problem in caught.value.problem
    assert caught.value.status == status
    assert asyncio.all_tasks() == before


async def test_what_comes_right_behind_the_handshake_is_read() -> None:
    async def script(connection: Far) -> None:
        connection.shake(frame_message(OPEN))
        assert await connection.read() == "40"
        connection.write(ACCEPTED, frame_message('42["n",1]'))
        await connection.read()

    async with far(script) as url:
        client = waypost.Client(url)
        recorder = Recorder(client, "n")
        async with client:
            await until(lambda: recorder.of("n") == [(1,)], "the event")


@pytest.mark.parametrize("how", ["twice", "given up"])
async def test_leaving_is_interrupted_and_leaves_nothing_open(how: str) -> None:
    closes = asyncio.Event()

    async def never_closes(connection: Far) -> None:
        connection.shake(frame_message(OPEN))
        await connection.read()
        connection.write(ACCEPTED)
        while await connection.read() is not None:
            pass
        closes.set()
        await connection.reader.read()

    async with far(never_closes) as url:
        client = waypost.Client(url)
        await client.connect()
        leaving = asyncio.create_task(client.disconnect())
        await closes.wait()  # the client waits for the server to close, too
        assert not leaving.done()
        main = client._manager._main
        assert main is not None
        if how == "twice":
            await client._manager.stop()
        else:
            main.cancel()  # as a loop does that ends
        await asyncio.wait((leaving, main))
        del client, leaving, main
        gc.collect()  # a connection that is open still would be complained of


# ----------------------------------------------------------------------------------------- what was not sent yet


async def test_what_finds_the_connection_closing_is_sent_on_the_next_one() -> None:
    received: list[list[Frame]] = []

    async def script(connection: Far) -> None:
        connection.shake(frame_message(OPEN))
        await connection.read()
        connection.write(ACCEPTED)
        frames: list[Frame] = []
        received.append(frames)
        while (frame := await connection.read()) is not None:
            frames.append(frame)
            if frame == '420["asked"]':
                connection.write(frame_message('430["answered"]'))

    async with far(script) as url:
        client = waypost.Client(url, transports=["websocket"], reconnection_delay_s=0.01)
        async with client:
            # In one turn of the loop: all this is handed over after the server's close has been read, and before
            # anybody has noticed.
            assert await client.volatile.emit("now or never") is True
            await client.emit("first")
            await client.emit("second", b"1", b"2")
            read_close(client)
            await until(lambda: len(received) == 2 and len(received[1]) == 4, "the events")
            asked = asyncio.create_task(client.call("asked"))
            await asyncio.sleep(0)
            read_close(client)
            async with asyncio.timeout(DEADLINE_S):
                assert await asked == "answered"
    placeholders = ",".join(f'{{"_placeholder":true,"num":{n}}}' for n in range(2))
    events = ['42["first"]', f'452-["second",{placeholders}]', b"1", b"2"]
    assert received == [[], events, ['420["asked"]', "41"]]


def read_close(client: waypost.Client) -> None:
    """Have a client's connection read that the server closes it."""
    engine = client._manager._engine
    assert engine is not None
    engine._transport._wire.data_received(frame_close(1001))  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------- slow ends


async def test_a_slow_reader_makes_the_server_wait() -> None:
    event = '42["n","{}"]'.format("x" * 10_000)
    sent = 0

    async def floods(connection: Far) -> None:
        nonlocal sent
        connection.shake(frame_message(OPEN))
        await connection.read()
        connection.write(ACCEPTED)
        for _ in range(3_000):
            connection.write(frame_message(event))
            await connection.writer.drain()
            sent += 1
        await connection.read()

    async with far(floods) as url:
        client = waypost.Client(url, max_pending_events=2)
        may_go_on = asyncio.Event()
        seen = 0

        @client.event
        async def n(text: str) -> None:
            nonlocal seen
            await may_go_on.wait()
            seen += 1

        async with client:
            before = -1
            while before < sent:  # until the server has stood still for a while
                before = sent
                await asyncio.sleep(0.3)
            assert 0 < sent < 3_000
            may_go_on.set()
            await until(lambda: seen == 3_000, "all events")


async def test_a_slow_server_makes_the_client_wait() -> None:
    may_read = asyncio.Event()
    received: list[Frame] = []

    async def reads_late(connection: Far) -> None:
        connection.shake(frame_message(OPEN.replace("1000000", "4000000")))
        await connection.read()
        connection.write(ACCEPTED)
        await may_read.wait()
        while (frame := await connection.read()) is not None:
            received.append(frame)

    async with far(reads_late) as url, waypost.Client(url, max_buffered_bytes=MEBIBYTE) as client:
        sending = asyncio.create_task(_emit(client, 30))
        await until(lambda: client._manager.writable is False, "a full network")
        assert await client.volatile.emit("dropped") is False
        assert not sending.done()
        asked = asyncio.create_task(client.call("asked"))
        await asyncio.sleep(0)
        assert len(client._session.calls) == 1
        asked.cancel()  # while it waits for room
        await asyncio.wait((asked,))
        assert (len(client._session.calls), client._manager.flow.awaited) == (0, 0)
        may_read.set()
        await sending
        await until(lambda: len(received) == 60, "all events")
    heads = [frame for frame in received if isinstance(frame, str)][:30]
    assert [int(head.rpartition(",")[2][:-1]) for head in heads] == list(range(30))


async def _emit(client: waypost.Client, count: int) -> None:
    for number in range(count):
        await client.emit("n", b"x" * MEBIBYTE, number)
