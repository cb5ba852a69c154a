"""A model of the official client over an in-memory connection: what it keeps, sends and shows, and nothing else.

It drives a hub's `Connection` directly, as a WebSocket transport would, so that tests decide when each frame goes
and when the line is cut.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from waypost.application import Server
from waypost.protocol.engineio import Frame
from waypost.protocol.revision import Revision4
from waypost.protocol.socketio import Decoder, Packet, PacketType
from waypost.server.basics.handshake import Handshake
from waypost.server.connections.connection import Connection
from waypost.server.hub import Hub
from waypost.server.namespaces.channel import Channel

DEADLINE_S = 60.0

HANDSHAKE = Handshake(
    headers={}, query={"t": "abc"}, auth={}, url="/", address="test", secure=False, cross_origin=False, time=0
)


def hub_of(server: Server) -> Hub:
    return server._hub


def only_channel(server: Server, namespace: str = "/") -> Channel:
    """Return the channel of the only client in a namespace."""
    (channel,) = hub_of(server).directory.core(namespace).index
    assert isinstance(channel, Channel)
    return channel


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0)


class ModelClient:
    """One client in one namespace.

    Attributes:
        events: Arguments of every event it showed, without the offset; the name first.
        refusal: The payload of the last CONNECT_ERROR.
        answer: The payload of the last CONNECT.
        payload: What CONNECT carries instead of pid and offset; ``None`` for these.
        answers: How many CONNECTs have come.
    """

    def __init__(self, server: Server, namespace: str = "/", *, handshake: Handshake = HANDSHAKE) -> None:
        self.hub = hub_of(server)
        self.namespace = namespace
        self.handshake = handshake
        self.events: list[list[Any]] = []
        self.offsets: list[str] = []
        self.acks: dict[int, list[Any]] = {}
        self.to_acknowledge: list[tuple[int, list[Any]]] = []
        self.auto_ack = True
        self.is_deaf = False
        self.connected = False
        self.recovered = False
        self.disconnected_by_server = False
        self.payload: dict[str, Any] | None = None
        self.pid: str | None = None
        self.sid: str | None = None
        self.offset: str | None = None
        self.answer: dict[str, Any] = {}
        self.answers = 0
        self.refusal: dict[str, Any] | None = None
        self.connection: Connection | None = None
        self.reading: asyncio.Task[None] | None = None
        self._may_read = asyncio.Event()
        self._may_read.set()

    def stop_reading(self) -> None:
        self._may_read.clear()

    def read_on(self) -> None:
        self._may_read.set()

    def send(self, packet: str) -> None:
        """Send a Socket.IO packet of this client's namespace, given as its type and what follows the namespace."""
        assert self.connection is not None
        prefix = "" if self.namespace == "/" else f"{self.namespace},"
        self.connection.receive(f"4{packet[0]}{prefix}{packet[1:]}")

    def open(self, auth: str = "") -> None:
        """Open a connection and send CONNECT, with pid and offset if there are any."""
        self.connection = self.hub.engine.open("websocket", self.handshake, Revision4())
        payload: dict[str, Any] = dict(self.payload or {})
        if self.payload is None and self.pid is not None:
            payload["pid"] = self.pid
            if self.offset is not None:
                payload["offset"] = self.offset
        if auth:
            payload["token"] = auth
        self.connected = self.recovered = False
        self.refusal = None
        self.reading = asyncio.get_running_loop().create_task(self._read(self.connection))
        self.send("0" + (json.dumps(payload) if payload else ""))

    async def connect(self, auth: str = "") -> None:
        """Open, and wait until the server has answered."""
        answers = self.answers
        self.open(auth)
        # It may be cut again right behind the answer.
        await until(lambda: self.answers > answers or self.refusal is not None)

    def vanish(self) -> None:
        """Go without the server noticing: it goes on writing to a connection nobody reads."""
        assert self.reading is not None
        self.reading.cancel()
        self.connected = False

    async def cut(self) -> None:
        """Lose the line, noticed by both sides."""
        assert self.connection is not None
        self.vanish()
        self.connection.lose_transport("transport close")
        await asyncio.sleep(0)

    async def _read(self, connection: Connection) -> None:
        decoder = Decoder(max_attachments=10, max_attachment_bytes=1 << 20)
        while True:
            await self._may_read.wait()
            frame = await connection.next_frame()
            if frame is None:
                self.connected = False
                return
            self._take(connection, decoder, frame)

    def _take(self, connection: Connection, decoder: Decoder, frame: Frame) -> None:
        if frame == "2":
            connection.receive("3")
        elif isinstance(frame, bytes) or frame.startswith("4"):
            packet = decoder.feed(frame)
            if packet is not None and packet.namespace == self.namespace:
                self._handle(packet)

    def _handle(self, packet: Packet) -> None:
        if packet.type is PacketType.CONNECT:
            self.answer = packet.data
            self.answers += 1
            self.sid = packet.data["sid"]
            pid = packet.data.get("pid")
            self.recovered = pid is not None and pid == self.pid
            self.pid = pid
            self.connected = True
        elif packet.type is PacketType.CONNECT_ERROR:
            self.refusal = packet.data
        elif packet.type is PacketType.ACK:
            assert packet.ack_id is not None
            self.acks[packet.ack_id] = packet.data
        elif packet.type is PacketType.DISCONNECT:
            self.connected = False
            self.disconnected_by_server = True
        else:
            self._handle_event(packet)

    def _handle_event(self, packet: Packet) -> None:
        if self.is_deaf:
            return
        # The official client would keep an event that comes before CONNECT for ever: it must never happen.
        assert self.connected, f"{packet.data} came before CONNECT"
        arguments = packet.data
        if packet.ack_id is not None:
            self.events.append(arguments)
            if self.auto_ack:
                self.acknowledge(packet.ack_id)
            else:
                self.to_acknowledge.append((packet.ack_id, arguments))
        elif self.pid is not None and isinstance(arguments[-1], str):
            self.offset = arguments[-1]
            self.offsets.append(self.offset)
            self.events.append(arguments[:-1])
        else:
            self.events.append(arguments)

    def acknowledge(self, ack_id: int, answer: str = "[]") -> None:
        self.send(f"3{ack_id}{answer}")

    async def wait_for(self, count: int) -> list[list[Any]]:
        """Wait until it has shown so many events in all, and a moment longer for any that are too many."""
        await until(lambda: len(self.events) >= count)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(self.events) == count, self.events
        return self.events

    async def call(self, event: str, *args: Any, ack_id: int = 1) -> list[Any]:
        """Emit with an ack and wait for it."""
        self.acks.pop(ack_id, None)
        self.send(f"2{ack_id}{json.dumps([event, *args])}")
        await until(lambda: ack_id in self.acks)
        return self.acks[ack_id]


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    """Run a server without any transport."""
    await server.start()
    try:
        yield server
    finally:
        await server.close()
