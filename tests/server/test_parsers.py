"""Parsers as the server uses them: JSON, msgpack, and one of the application's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import waypost
from tests.client.serving import serving
from tests.server.model_client import HANDSHAKE, hub_of, until
from waypost.errors import ProtocolViolation
from waypost.protocol.codec import Codec
from waypost.protocol.packet import Packet, PacketType
from waypost.protocol.revision import Revision4
from waypost.server.connections.connection import Connection

ECHOED: list[Any] = ["text", 1.5, None, {"a": [b"bytes", {"b": b""}]}, 2**53, -(2**63), 2**64 - 1]


class Lines:
    """A parser that writes a packet as two texts: what it is, and its data."""

    def encode(self, packet: Packet) -> Sequence[str | bytes]:
        head = f"{packet.type.value}:{packet.namespace}:{'' if packet.ack_id is None else packet.ack_id}"
        body = json.dumps(packet.data, default=lambda value: {"hex": bytes(value).hex()})
        return [f"{head}\n{body}"] if packet.type is PacketType.CONNECT else [head, body]

    def make_decoder(self) -> LinesDecoder:
        return LinesDecoder()


class LinesDecoder:
    def __init__(self) -> None:
        self._head: str | None = None

    def decode(self, message: str | bytes) -> Packet | None:
        text = message if self._head is None else f"{self._head}\n{message!s}"
        assert isinstance(text, str)
        self._head = None
        head, newline, body = text.partition("\n")
        if not newline:
            self._head = head
            return None
        kind, namespace, ack_id = head.split(":")
        data = json.loads(body, object_hook=lambda read: bytes.fromhex(read["hex"]) if "hex" in read else read)
        return Packet(PacketType(int(kind)), namespace, data, int(ack_id) if ack_id else None)


PARSERS: dict[str, Callable[[], Any]] = {"json": lambda: "json", "msgpack": lambda: "msgpack", "own": Lines}


@pytest.fixture(params=list(PARSERS))
def parser(request: pytest.FixtureRequest) -> Any:
    return PARSERS[request.param]()


def make_server(parser: Any, **options: Any) -> waypost.Server:
    io = waypost.Server(parser=parser, drain_s=0, **options)

    @io.event
    async def echo(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
        return args

    @io.event
    async def say(socket: waypost.Socket, *args: Any) -> None:
        await socket.emit("said", *args)

    return io


class WireClient:
    """A client that speaks whatever the server speaks, over an in-memory connection."""

    def __init__(self, io: waypost.Server) -> None:
        self.hub = hub_of(io)
        self.codec: Codec = self.hub.codec
        self.connection: Connection = self.hub.engine.open("websocket", HANDSHAKE, Revision4())
        self._decoder = self.codec.make_decoder(max_attachments=10, max_attachment_bytes=1 << 20)

    def send(self, *frames: str | bytes) -> None:
        for frame in frames:
            self.connection.receive(frame)

    async def next(self) -> Packet:
        while True:
            frame = await self.connection.next_frame()
            assert frame is not None, "the connection is closed"
            packet = self._decoder.feed(frame) if isinstance(frame, bytes) or frame.startswith("4") else None
            if packet is not None:
                return packet

    async def enter(self, payload: dict[str, Any] | None = None, namespace: str = "/") -> dict[str, Any]:
        self.send(*self.codec.encode_connect(namespace, payload))
        packet = await self.next()
        assert packet.type is PacketType.CONNECT
        answer: dict[str, Any] = packet.data
        return answer


@asynccontextmanager
async def running(io: waypost.Server) -> AsyncIterator[waypost.Server]:
    await io.start()
    try:
        yield io
    finally:
        for connection in hub_of(io).engine.connections():
            connection.lose_transport("transport close")  # nobody would read a goodbye
        await io.close()


async def test_the_python_client_speaks_it(parser: Any) -> None:
    io = make_server(parser)

    @io.event
    async def ask(socket: waypost.Socket) -> Any:
        return await socket.call("question", b"q", timeout_s=2)

    async with serving(io) as port:
        client = waypost.Client(f"http://127.0.0.1:{port}", parser=parser, auth={"who": "me"})
        said: list[Any] = []
        client.on("said", lambda *args: said.append(args))
        client.on("question", lambda value: ["answer", value])
        async with client:
            assert await client.call("echo", *ECHOED) == tuple(ECHOED)
            assert await client.call("ask") == ["answer", b"q"]
            await client.emit("say", *ECHOED)
            await until(lambda: bool(said))
            assert said == [tuple(ECHOED)]


async def test_what_was_missed_is_replayed(parser: Any) -> None:
    async with running(make_server(parser)) as io:
        client = WireClient(io)
        answer = await client.enter()
        await io.emit("news", 1, b"one")
        first = (await client.next()).data
        client.connection.lose_transport("transport close")
        await io.emit("news", 2, {"two": b"two"})
        again = WireClient(io)
        back = await again.enter({"pid": answer["pid"], "offset": first[-1]})
        assert (back["sid"], back["pid"]) == (answer["sid"], answer["pid"])
        assert (await again.next()).data[:-1] == ["news", 2, {"two": b"two"}]


@pytest.mark.parametrize("after", list(PARSERS))
@pytest.mark.parametrize("before", list(PARSERS))
async def test_records_survive_a_change_of_the_parser(before: str, after: str, tmp_path: Path) -> None:
    store = str(tmp_path / "store.db")
    async with running(make_server(PARSERS[before](), store=store)) as io:
        client = WireClient(io)
        answer = await client.enter()
        client.connection.lose_transport("transport close")
        await io.emit("news", *ECHOED)
        await io.queue("jobs").emit("job", *ECHOED, id="1")
    io = make_server(PARSERS[after](), store=store)

    @io.event
    async def work(socket: waypost.Socket) -> None:
        await socket.consume("jobs")

    async with running(io):
        client = WireClient(io)
        back = await client.enter({"pid": answer["pid"]})
        assert (back["sid"], back["pid"]) == (answer["sid"], answer["pid"])
        assert (await client.next()).data[:-1] == ["news", *ECHOED]
        client.send(*client.codec.encode_event("/", "work", []).frames())
        job = await client.next()
        assert job.data == ["job", *ECHOED]
        assert job.ack_id is not None


BAD = {
    "json": ["42[", b"attachment", '42["connect"]'],
    "msgpack": [
        "42[]",
        b"\xc1",
        msgspec.msgpack.encode({"type": 2, "nsp": "/", "data": ["connect"]}),
        b"\x91" * 99_999,
    ],
    "own": ["9:/:\nnull", "rubbish\n1", b"\xff", '2:/:\n["connect"]', "2:nowhere:\n[]", '2:/:-1\n["x"]', "rubbish"],
}


@pytest.mark.parametrize(("name", "frame"), [(name, frame) for name, frames in BAD.items() for frame in frames])
async def test_what_cannot_be_read_closes_that_connection_only(
    name: str, frame: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(make_server(PARSERS[name]())) as io:
        client, other = WireClient(io), WireClient(io)
        await client.enter()
        await other.enter()
        text = f"4{frame}" if isinstance(frame, str) and name == "own" else frame
        with pytest.raises(ProtocolViolation):
            client.send(text, *(("4{}",) if name == "own" and "\n" not in str(frame) else ()))
        assert not client.connection.is_open
        assert "Traceback" not in caplog.text
        other.send(*other.codec.encode_event("/", "echo", [1]).frames_with_ack(1))
        assert (await other.next()).data == [1]


async def test_nothing_but_connect_is_taken_first(parser: Any) -> None:
    async with running(make_server(parser)) as io:
        for frames in (
            hub_of(io).codec.encode_event("/", "echo", [b"1"]).frames(),
            hub_of(io).codec.encode_disconnect("/"),
        ):
            client = WireClient(io)
            with pytest.raises(ProtocolViolation):
                client.send(frames[0])
            assert not client.connection.is_open


async def test_refusals_and_farewells_are_written_in_it(parser: Any) -> None:
    io = make_server(parser)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        if auth:
            raise waypost.ConnectionRefused("not you", {"code": 7})

    @io.event
    async def leave(socket: waypost.Socket) -> None:
        await socket.disconnect()

    async with running(io):
        client = WireClient(io)
        client.send(*client.codec.encode_connect("/", {"who": "me"}))
        refused = await client.next()
        assert refused == Packet(PacketType.CONNECT_ERROR, "/", {"message": "not you", "data": {"code": 7}})
        client.send(*client.codec.encode_connect("/nowhere", None))
        unknown = await client.next()
        assert unknown == Packet(PacketType.CONNECT_ERROR, "/nowhere", {"message": "Invalid namespace"})
        await client.enter()
        client.send(*client.codec.encode_event("/", "leave", []).frames())
        assert await client.next() == Packet(PacketType.DISCONNECT, "/")


async def test_dates_are_dates_in_msgpack() -> None:
    async with running(make_server("msgpack")) as io:
        client = WireClient(io)
        await client.enter()
        noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
        client.send(*client.codec.encode_event("/", "echo", [noon]).frames_with_ack(0))
        assert (await client.next()).data == [noon]


async def test_an_event_is_what_it_was_when_it_was_emitted() -> None:
    async with running(make_server(Lines())) as io:
        client = WireClient(io)
        await client.enter()
        value = ["before"]
        task = asyncio.ensure_future(io.emit("news", value))
        await asyncio.sleep(0)
        value[0] = "after"
        await task
        assert (await client.next()).data[1] == ["before"]


async def test_what_a_parser_cannot_write_is_refused_where_it_is_emitted() -> None:
    class Mute(Lines):
        def encode(self, packet: Packet) -> Sequence[str | bytes]:
            return [] if packet.type is PacketType.EVENT else super().encode(packet)

    async with running(make_server(Mute())) as io:
        with pytest.raises(waypost.EncodingFailed, match="the parser gave no message"):
            await io.emit("news", 1)
    async with running(make_server(Lines())) as io:
        with pytest.raises(waypost.EncodingFailed, match="event 'news' can't be encoded: TypeError"):
            await io.emit("news", object())


@pytest.mark.parametrize("parser", ["xml", "JSON", "", None, 3, object(), Lines])
def test_a_parser_that_is_none_is_refused_at_the_start(parser: Any) -> None:
    with pytest.raises(waypost.ConfigurationError, match="parser"):
        waypost.Server(parser=parser)
    with pytest.raises(waypost.ConfigurationError, match="parser"):
        waypost.Client("http://localhost", parser=parser)
