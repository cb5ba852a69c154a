"""A model of the official JavaScript client, line for line where it matters: manager, sockets, backoff, offsets.

After socket.io-client 4.8.4 (build/cjs/manager.js, socket.js) and engine.io-client (build/cjs/socket.js), with the
WebSocket transport.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

from tests.sim.network import Link
from tests.sim.trace import Trace
from waypost.protocol.engineio import Frame
from waypost.protocol.extension import DeliveryMark, split_mark
from waypost.protocol.socketio import Decoder, Packet, PacketType

__all__ = ["ClientSocket", "Epoch", "Manager", "Shown", "Surroundings"]

_CONNECT_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Shown:
    """An event that a client's application saw.

    Attributes:
        time: When.
        name: The event's name.
        arguments: Its arguments, without the offset.
        offset: The string that came last, if the client took it for an offset.
        link: The name of the link it came over.
        mark: Which message of a queue it is, if the server says so.
    """

    time: float
    name: str
    arguments: tuple[Any, ...]
    offset: str | None
    link: str
    mark: DeliveryMark | None = None


@dataclass(slots=True)
class Epoch:
    """The time from one CONNECT that is not recovered to the next.

    Attributes:
        sid: The socket's id.
        pid: Its secret.
        since: When it began.
        reason: Why the server says it began anew.
        asked: What the client sent with CONNECT: ``(pid, offset)``.
        recoveries: When the client recovered in it.
        shown: What it saw.
    """

    sid: str
    pid: str | None
    since: float
    reason: str | None
    asked: tuple[str | None, str | None]
    recoveries: list[float] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)


class Surroundings(Protocol):
    """What a client needs of the world."""

    trace: Trace

    def time(self) -> float:
        """Return the time."""
        ...

    def later(self, when: float, callback: Callable[..., object], *args: object) -> Any:
        """Call something at a time; what is returned can be cancelled."""
        ...

    def connect(self, manager: Manager) -> Link:
        """Open a link to the server."""
        ...

    def delivered(self, socket: ClientSocket, packet: Packet, shown: Shown) -> None:
        """Let the client's application handle an event."""
        ...

    def answered(self, socket: ClientSocket, ack_id: int, arguments: list[Any]) -> None:
        """Let the client's application have an ack."""
        ...

    def turned_away(self, socket: ClientSocket, why: str) -> None:
        """Let the client's application know that the server has disconnected or refused it."""
        ...

    def wrong(self, problem: str) -> None:
        """Note that something happened that must never happen."""
        ...


class Manager:
    """A client's connection, made again and again; carries its sockets.

    Attributes:
        name: The client's name.
        sockets: Its sockets by namespace.
        link: The link in use.
        state: ``closed``, ``opening`` or ``open``.
    """

    def __init__(self, name: str, world: Surroundings, chance: Random, delay_ms: float = 1000) -> None:
        self.name = name
        self.world = world
        self.sockets: dict[str, ClientSocket] = {}
        self.link: Link | None = None
        self.state = "closed"
        self._chance = chance
        self._delay_ms = delay_ms
        self._attempts = 0
        self._reconnecting = False
        self._skip_reconnect = False
        self._timer: Any = None
        self._ping_timer: Any = None
        self._ping_s = 0.0
        self._write_buffer: list[str] = []
        self._decoder = _decoder()

    def socket(self, namespace: str) -> ClientSocket:
        """Return a socket, made if need be."""
        if namespace not in self.sockets:
            self.sockets[namespace] = ClientSocket(namespace, self)
        return self.sockets[namespace]

    def open(self) -> None:
        """Open the connection, unless it is open or opening."""
        if self.state != "closed":
            return
        self.state = "opening"
        self._skip_reconnect = False
        self._write_buffer = []
        self.link = self.world.connect(self)
        self._set_timer(_CONNECT_TIMEOUT_S, self._give_up)

    @property
    def is_reconnecting(self) -> bool:
        """Whether it is waiting to open again by itself."""
        return self._reconnecting

    def write(self, text: str) -> None:
        """Write a Socket.IO packet, given as text: it waits while the link opens, and is lost once it is closed."""
        if self.state == "open" and self.link is not None:
            self.link.send(f"4{text}")
        elif self.state == "opening":
            self._write_buffer.append(f"4{text}")

    def renew(self) -> None:
        """Close the link and open another one soon."""
        self._close("forced close")

    def destroyed(self) -> None:
        """Close if no socket is active any more."""
        if not any(socket.active for socket in self.sockets.values()):
            self._skip_reconnect = True
            self._reconnecting = False
            self._close("forced close")

    # -- the link's end -------------------------------------------------------------------------------------

    def link_frame(self, link: Link, frame: Frame) -> None:
        if link is not self.link:
            return
        if isinstance(frame, bytes) or frame.startswith("4"):
            packet = self._decoder.feed(frame)
            if packet is not None and packet.namespace in self.sockets:
                self.sockets[packet.namespace].take(packet)
        elif frame.startswith("0"):
            self._opened(json.loads(frame[1:]))
        elif frame == "2":
            link.send("3")
            self._reset_ping()
        elif frame == "1":
            self._lost("transport close")

    def link_closed(self, link: Link) -> None:
        if link is self.link:
            self._lost("transport close")

    def _lost(self, reason: str) -> None:
        if self.state == "opening":
            self._failed()
        elif self.state == "open":
            self._close(reason)

    def _opened(self, handshake: dict[str, Any]) -> None:
        self._cancel_timer()
        self.state = "open"
        self._reconnecting = False
        self._attempts = 0
        self._decoder = _decoder()
        self._ping_s = (handshake["pingInterval"] + handshake["pingTimeout"]) / 1000
        self._reset_ping()
        # What was written while it was opening comes before the CONNECT packets.
        buffered, self._write_buffer = self._write_buffer, []
        for frame in buffered:
            if self.link is not None:
                self.link.send(frame)
        for socket in list(self.sockets.values()):
            if socket.active:
                socket.engine_opened()

    def _reset_ping(self) -> None:
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        self._ping_timer = self.world.later(self.world.time() + self._ping_s, self._close, "ping timeout")

    def _give_up(self) -> None:
        self._timer = None
        if self.state == "opening":
            self._failed()

    def _failed(self) -> None:
        self._let_go()
        if self._reconnecting or self._attempts == 0:
            self._reconnecting = False
            self._reconnect()

    def _close(self, reason: str) -> None:
        if self.state == "closed" and self.link is None and not self._timer:
            return
        self._let_go()
        self._attempts = 0
        for socket in list(self.sockets.values()):
            if socket.active:
                socket.engine_closed(reason)
        if not self._skip_reconnect:
            self._reconnect()

    def _let_go(self) -> None:
        self._cancel_timer()
        if self._ping_timer is not None:
            self._ping_timer.cancel()
            self._ping_timer = None
        link, self.link = self.link, None
        self.state = "closed"
        if link is not None and link.is_open:
            link.close()

    def _reconnect(self) -> None:
        if self._reconnecting or self._skip_reconnect:
            return
        self._reconnecting = True
        base_ms = self._delay_ms * 2.0 ** min(self._attempts, 10)
        self._attempts += 1
        rand = self._chance.random()
        deviation = int(rand * 0.5 * base_ms)
        delay_ms = min(base_ms - deviation if int(rand * 10) & 1 == 0 else base_ms + deviation, 5000)
        self._set_timer(delay_ms / 1000, self._reopen)

    def _reopen(self) -> None:
        self._timer = None
        if not self._skip_reconnect:
            self.open()

    def _set_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self.world.later(self.world.time() + seconds, callback)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ClientSocket:
    """A client in one namespace.

    Attributes:
        active: Whether it wants to be connected.
        epochs: All it has seen, by session.
    """

    def __init__(self, namespace: str, manager: Manager) -> None:
        self.namespace = namespace
        self.manager = manager
        self.world = manager.world
        self.active = False
        self.connected = False
        self.recovered = False
        self.pid: str | None = None
        self.offset: str | None = None
        self.epochs: list[Epoch] = []
        self._asked: tuple[str | None, str | None] = (None, None)
        self._send_buffer: list[str] = []
        self._abandoned: Link | None = None
        self._left: Link | None = None
        self._receive_buffer: list[Any] = []

    @property
    def label(self) -> str:
        """What the trace calls it."""
        return f"{self.manager.name}{self.namespace}"

    def connect(self) -> None:
        """Connect, as the application asks for."""
        if self.connected or self.active:
            return
        self.active = True
        if self._abandoned is not None and self._abandoned is self.manager.link:
            # The official client would take what the server sends to the abandoned attempt for its own, keep it until
            # CONNECT, and show it twice. No server can know; an application that does so needs a new connection.
            self.manager.renew()
            return
        if not self.manager.is_reconnecting:
            self.manager.open()
        if self.manager.state == "open":
            self.engine_opened()

    def disconnect(self) -> None:
        """Disconnect on purpose."""
        if self.connected:
            self._write("1", "")
            self._left = self.manager.link
        elif self.active and self.manager.state == "open":
            self._abandoned = self.manager.link
        self._destroy()
        if self.connected:
            self.engine_closed("io client disconnect")

    def emit(self, name: str, *args: Any, ack_id: int | None = None) -> None:
        """Emit an event; while not connected it waits for the connection."""
        text = f"{'' if ack_id is None else ack_id}{json.dumps([name, *args])}"
        if self.connected:
            self._write("2", text)
        else:
            self._send_buffer.append(text)

    def acknowledge(self, ack_id: int, *args: Any) -> None:
        """Call an event's callback: it goes to whatever connection there is by now, as with the official client."""
        self._write("3", f"{ack_id}{json.dumps(args)}")

    # -- the manager's calls --------------------------------------------------------------------------------

    def engine_opened(self) -> None:
        payload: dict[str, Any] = {}
        if self.pid is not None:
            payload["pid"] = self.pid
            if self.offset is not None:
                payload["offset"] = self.offset
        self._asked = (self.pid, self.offset)
        payload["name"] = self.manager.name
        self._write("0", json.dumps(payload))

    def engine_closed(self, reason: str) -> None:
        if self.connected:
            self.world.trace.note("{}: disconnected, {}", self.label, reason)
        self.connected = False

    def take(self, packet: Packet) -> None:
        """Take a packet of this namespace."""
        if not self.active:
            return
        if packet.type is PacketType.CONNECT:
            self._take_connect(packet.data)
        elif packet.type is PacketType.EVENT:
            self._take_event(packet)
        elif packet.type is PacketType.ACK:
            assert packet.ack_id is not None
            self.world.answered(self, packet.ack_id, packet.data)
        elif packet.type is PacketType.DISCONNECT:
            self._destroy()
            self.engine_closed("io server disconnect")
            self.world.turned_away(self, "disconnected")
        else:
            self._destroy()
            self.world.turned_away(self, f"refused {packet.data}")

    # -- inside ---------------------------------------------------------------------------------------------

    def _take_connect(self, answer: dict[str, Any]) -> None:
        if self.connected:
            self.world.wrong(f"{self.label} is told twice that it is connected")
        pid = answer.get("pid")
        self.recovered = pid is not None and pid == self.pid
        self.pid = pid
        self.connected = True
        self.world.trace.note("{}: connected {} {}", self.label, answer, "recovered" if self.recovered else "anew")
        if self.recovered:
            self._check_recovered(answer)
            self.epochs[-1].recoveries.append(self.world.time())
        else:
            self.epochs.append(Epoch(answer["sid"], pid, self.world.time(), answer.get("reason"), self._asked))
        for last in self._receive_buffer:
            self.offset = last if isinstance(last, str) else self.offset
        self._receive_buffer = []
        self._left = None
        buffered, self._send_buffer = self._send_buffer, []
        for text in buffered:
            self._write("2", text)

    def _check_recovered(self, answer: dict[str, Any]) -> None:
        if not self.epochs or self.epochs[-1].sid != answer["sid"]:
            self.world.wrong(f"{self.label} recovered as another socket: {answer}")
        if "reason" in answer:
            self.world.wrong(f"{self.label} recovered, and yet there is a reason: {answer}")

    def _take_event(self, packet: Packet) -> None:
        if not self.connected and self._left is not None and self._left is self.manager.link:
            # On its way when the socket left. The client keeps it, takes its offset, and shows it after CONNECT.
            self._receive_buffer += [packet.data[-1]] if packet.ack_id is None else []
            return
        if not self.connected:
            self.world.wrong(f"{self.label} got {packet.data} before CONNECT")
            return
        name, *arguments = packet.data
        offset = None
        if packet.ack_id is None and self.pid is not None and isinstance(packet.data[-1], str):
            offset = self.offset = packet.data[-1]
            arguments = arguments[:-1]
        link = self.manager.link
        arguments, mark = split_mark(arguments)
        shown = Shown(self.world.time(), name, tuple(arguments), offset, "" if link is None else link.name, mark)
        self.epochs[-1].shown.append(shown)
        self.world.trace.note("{}: shown {} {} at {}", self.label, name, shown.arguments[:1], offset)
        self.world.delivered(self, packet, shown)

    def _destroy(self) -> None:
        if self.active:
            self.active = False
            self.manager.destroyed()

    def _write(self, kind: str, text: str) -> None:
        prefix = "" if self.namespace == "/" else f"{self.namespace},"
        self.manager.write(kind + prefix + text)


def _decoder() -> Decoder:
    return Decoder(max_attachments=10, max_attachment_bytes=1 << 20)
