"""What happened to queues, in order: what reached the disk, what the server sent and got, and how its lives ended.

All of it is seen from outside: at the disk, and at the two hooks that tell of packets.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from waypost.application import Server
from waypost.protocol.extension import DeliveryMark, split_mark
from waypost.protocol.packet import PacketType
from waypost.server.watching.hooks import PacketReceived, PacketSent, SocketConnected, SocketDisconnected
from waypost.server.watching.queue_events import MessageDied
from waypost.storage.clock import StoreClock

__all__ = ["Happening", "QueueLog", "Sent"]


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened.

    Attributes:
        time: When.
        stored: When, by the store's clock.
        wall: When, by the wall clock.
            kind: What the storage contract calls the write, or ``opened``, ``released``, ``trimmed``, ``blamed``,
            ``sent``, ``notice``, ``answer``, ``back``, ``left``, ``died``, ``ended``; ``set`` just before and after
            somebody sets the wall clock.
            queue: The queue, if it is about one.
        consumer: The consumer, if it is about one.
        what: What belongs to the kind.
    """

    time: float
    stored: float
    wall: float
    kind: str
    queue: str
    consumer: str
    what: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """A message, or a notice of a loss, that the server has sent.

    Attributes:
        life: The server's life.
        sid: To which socket. It may be answered over a later connection of the same session.
        ack_id: By what it is answered.
        connection: Over which connection of that life.
    """

    life: int
    sid: str
    ack_id: int
    connection: int = field(compare=False)


class QueueLog:
    """The log.

    Args:
        time: The virtual clock.
        clock: The store's clock, and the one on the wall.

    Attributes:
        all: Everything, in order.
    """

    def __init__(self, time: Callable[[], float], clock: StoreClock) -> None:
        self.all: list[Happening] = []
        self._time = time
        self._clock = clock

    def note(self, kind: str, queue: str, consumer: str, *what: Any) -> None:
        """Take something down."""
        clock = self._clock
        self.all.append(Happening(self._time(), clock.now(), clock.wall(), kind, queue, consumer, what))

    def watch(self, server: Server, life: int) -> None:
        """Take down what a server sends and gets, and which messages it gives up."""
        sids: dict[int, str] = {}
        early: dict[int, list[tuple[int, list[Any]]]] = {}

        def sent(packet: PacketSent) -> None:
            frame = packet.frames[0]
            if not isinstance(frame, str) or not frame.startswith("42") or "[" not in frame:
                return
            head, _, _ = frame.partition("[")
            name, *arguments = json.loads(frame[len(head) :])
            if not head[2:].isdigit():
                return
            one = Sent(life, sids.get(packet.connection, ""), int(head[2:]), packet.connection)
            _, mark = split_mark(arguments)
            if mark is not None:
                self.note("sent", mark.queue, mark.consumer, one, mark)
            elif name == "messages_lost":
                self.note("notice", arguments[0]["queue"], arguments[0]["consumer"], one, arguments[0])

        def received(packet: PacketReceived) -> None:
            if packet.packet.type is PacketType.ACK and packet.packet.namespace == "/":
                ack_id, answer = packet.packet.ack_id or 0, packet.packet.data
                if packet.connection in sids:
                    sid = sids[packet.connection]
                    self.note("answer", "", "", Sent(life, sid, ack_id, packet.connection), answer)
                else:
                    early.setdefault(packet.connection, []).append((ack_id, answer))

        def connected(socket: SocketConnected) -> None:
            if socket.namespace != "/":
                return
            sids[socket.connection] = socket.socket_id
            if socket.recovered:
                self.note("back", "", "", life, socket.socket_id)
                for ack_id, answer in early.pop(socket.connection, ()):
                    self.note("answer", "", "", Sent(life, socket.socket_id, ack_id, socket.connection), answer)

        def left(socket: SocketDisconnected) -> None:
            self.note("left", "", "", life, socket.connection, socket.reason)

        def died(message: MessageDied) -> None:
            self.note("died", message.queue, message.consumer, message.offset)

        server.hooks.packet_sent(sent)
        server.hooks.packet_received(received)
        server.hooks.socket_connected(connected)
        server.hooks.socket_disconnected(left)
        server.hooks.message_died(died)


def epoch_of(mark: DeliveryMark) -> int:
    """Return the number of the epoch that a message was delivered in."""
    return int(mark.epoch.rpartition(".")[2])
