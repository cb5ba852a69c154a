"""One connection and its namespaces: routes each incoming packet to its namespace."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from waypost.errors import LimitExceeded, MalformedPacket, shorten
from waypost.logs import by_client, fields, get_logger
from waypost.protocol.decoded_size import MOST_FOR_A_UNIT
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import Packet, PacketType
from waypost.server.connections.pace import Pace
from waypost.server.events.pending import LARGE, Pending
from waypost.server.namespaces.admission import Admission
from waypost.server.namespaces.channel import Channel
from waypost.server.namespaces.dialect import dialect_of
from waypost.server.namespaces.early_acks import EarlyAcks
from waypost.server.namespaces.entering import Entering
from waypost.server.namespaces.late_acks import LateAcks
from waypost.server.watching.counters import count
from waypost.server.watching.hooks import PacketReceived

if TYPE_CHECKING:
    from waypost.server.connections.connection import Connection
    from waypost.server.namespaces.core import Parts
    from waypost.server.namespaces.directory import Directory

__all__ = ["Peer"]

logger = get_logger("waypost.peer")

_EVENT = PacketType.EVENT
_ACK = PacketType.ACK
_REMEMBERED = 1_000
# With one message in hand at a time a client may still owe acks for several that were taken back.
_FEWEST_ACKS = 64
"""The number of remembered namespaces that the client left or that refused it. Late packets for them are no fault."""


class Peer:
    """The namespaces of one client's connection. The connection's `Receiver`.

    Args:
        connection: The connection.
        parts: The parts that all namespaces share.
        directory: The namespaces of the server.
    """

    __slots__ = (
        "_channels",
        "_connection",
        "_decoder",
        "_deliveries",
        "_dialect",
        "_directory",
        "_early_acks",
        "_ending",
        "_entering",
        "_has_told",
        "_left",
        "_pace",
        "_partial_bytes",
        "_parts",
        "_pending",
        "_pings",
        "_pongs",
        "_services",
        "_size_of",
        "_timer",
    )

    def __init__(self, connection: Connection, parts: Parts, directory: Directory) -> None:
        settings = parts.settings
        self._connection = connection
        self._parts = parts
        self._services = parts.services
        self._deliveries = parts.deliveries
        self._directory = directory
        self._dialect = dialect_of(connection.revision)
        self._decoder = parts.services.codec.make_decoder(
            max_attachments=settings.max_attachments,
            max_attachment_bytes=settings.max_payload_bytes,
            max_namespace_length=self._dialect.longest_namespace,
        )
        self._size_of = parts.services.codec.decoded_size
        self._partial_bytes = 0
        # The pings of the server, and their answers, which come in the same order.
        self._pings = self._pongs = 0
        self._pending = Pending(connection, settings.max_pending_bytes)
        self._channels: dict[str, Channel] = {}
        self._entering: dict[str, Entering] = {}
        self._ending: dict[str, Channel] = {}
        self._early_acks: EarlyAcks | None = None
        self._left: dict[str, None] = {}
        self._has_told = False
        self._timer: asyncio.TimerHandle | None = None
        allowed = settings.max_messages_per_s
        self._pace = None if allowed is None else Pace(connection, allowed)
        count(self._services.counters.connections_opened, connection.transport)
        self._expect_connect()
        if self._dialect.connects_unasked:
            self._connect(Packet(PacketType.CONNECT), 0)

    def receive_message(self, message: Frame) -> None:
        """Take a message.

        Raises:
            ProtocolViolation: The message is unreadable or not allowed at this point.
        """
        if self._pace is not None:
            self._pace.count()
        packet = self._decoder.feed(message)
        if not self._channels and not self._left and not self._may_come_first(packet):
            # Without this rule a client without access could fill the memory with attachments.
            raise self._violation("a CONNECT packet first", message)
        if packet is None:
            self._take_part(message)
            return
        self._services.counters.packets_received += 1
        if self._services.hooks.packet_received.observers:
            self._services.hooks.packet_received.tell(PacketReceived(self._connection.number, packet))
        channel = self._channels.get(packet.namespace)
        if packet.type is _EVENT and channel is not None:
            size = len(message) * MOST_FOR_A_UNIT
            if size > LARGE or self._partial_bytes:
                size = self._measured(message, packet)
            channel.receive_event(packet, size)
        elif packet.type is _ACK and channel is not None:
            channel.receive_ack(packet)
        elif packet.type is PacketType.CONNECT:
            self._connect(self._dialect.read_connect(packet), self._size_of(message, packet))
        elif packet.type is PacketType.DISCONNECT:
            self._disconnect(packet)
        elif packet.type is _ACK:
            self._acks_held().hold(packet, message)
        elif not (self._is_held(packet, message) or packet.namespace in self._left):
            came = f"{packet.type.name} of {packet.namespace}"
            raise self._violation("a packet of a namespace that is connected", came)

    def _measured(self, message: Frame, packet: Packet) -> int:
        """Return how many bytes a packet takes in memory, the messages before its last one included.

        While there is plenty of room, the result may be too high by far.
        """
        pending, most = self._pending, len(message) * MOST_FOR_A_UNIT
        if not self._partial_bytes and pending.waiting + pending.in_hand + most < pending.plenty:
            return most
        partial_bytes, self._partial_bytes = self._partial_bytes, 0
        return self._size_of(message, packet) + partial_bytes

    def receive_control(self) -> None:
        """Count a packet that is not a message.

        Raises:
            LimitExceeded: The client exceeds its rate by too much.
        """
        if self._pace is not None:
            self._pace.count()

    def _may_come_first(self, packet: Packet | None) -> bool:
        """Return whether a packet is allowed while the client has no namespace yet."""
        if packet is None:
            return self._decoder.awaits_ack
        is_withdrawal = packet.type is PacketType.DISCONNECT and packet.namespace in self._entering
        return is_withdrawal or packet.type in (PacketType.CONNECT, _ACK)

    def _take_part(self, message: Frame) -> None:
        """Count a message that completes no packet."""
        if self._decoder.awaits_ack:
            if not self._channels:
                self._acks_held().take_part(message)
        else:
            self._partial_bytes += self._size_of(message, None)

    def _acks_held(self) -> EarlyAcks:
        if self._early_acks is None:
            self._early_acks = EarlyAcks(self._services.counters, self._decoder, self._most_acks)
        return self._early_acks

    @property
    def _most_acks(self) -> int:
        """The most acks that are heard beside a connected socket.

        A client may owe them for what it has in hand, and for what was taken back from it since.
        """
        return max(_FEWEST_ACKS, 2 * self._deliveries.most_in_hand)

    def _is_held(self, packet: Packet, message: Frame) -> bool:
        """Return whether a packet that came before its namespace's answer waits for it."""
        entering = self._entering.get(packet.namespace)
        return entering is not None and entering.hold(packet, self._measured(message, packet))

    def _violation(self, expected: str, received: object) -> MalformedPacket:
        """Close the connection because of a readable packet that is not allowed now; returns the error to raise."""
        self._connection.abort("forced server close")
        return MalformedPacket(expected, received)

    def heartbeat_sent(self) -> None:
        """Remember for each socket the position of its last event before the ping."""
        self._pings += 1
        for channel in self._channels.values():
            self._deliveries.heartbeat_sent(channel)
            channel.out.acks.heartbeat_sent(self._pings)
            if channel.session is not None:
                channel.session.heartbeat_sent()

    def heartbeat_answered(self) -> None:
        """Note for each socket that its events up to the remembered position have arrived."""
        self._pongs += 1
        for channel in self._channels.values():
            channel.out.heartbeat_answered(self._pongs)
            self._deliveries.heartbeat_answered(channel)
            if channel.session is not None and channel.left_because is None:
                channel.session.heartbeat_answered()

    def probe_sent(self) -> None:
        """Remember for each socket the last message of a queue before the ping."""
        self._pings += 1
        for channel in self._channels.values():
            channel.out.acks.heartbeat_sent(self._pings)

    def probe_answered(self) -> None:
        """Note for each socket that the messages of queues before the ping have arrived."""
        self._pongs += 1
        for channel in self._channels.values():
            channel.out.heartbeat_answered(self._pongs)
            self._deliveries.heartbeat_answered(channel)

    def heartbeat_came(self) -> None:
        """Renew the leases of each socket's messages."""
        for channel in self._channels.values():
            self._deliveries.heartbeat_answered(channel)

    def disconnect_all(self) -> None:
        """Send the client a DISCONNECT in every namespace."""
        for channel in list(self._channels.values()):
            channel.disconnect()

    def connection_closed(self, reason: str) -> None:
        """End all sockets. Running handlers continue to their end."""
        count(self._services.counters.connections_closed, reason)
        if reason == "slow client":
            self._services.counters.slow_clients += 1
        if self._timer is not None:
            self._timer.cancel()
        if self._pace is not None:
            self._pace.stop()
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.close(reason)
        late = LateAcks(channels, self._decoder, self._services.counters, self._most_acks)
        if late.is_expected:
            self._connection.late = late
        for entering in self._entering.values():
            entering.leave(reason)

    def _connect(self, packet: Packet, size: int) -> None:
        """Begin to let the client in. If it is in the namespace, or has asked before, this replaces that."""
        name = packet.namespace
        channel, entering = self._channels.get(name), self._entering.get(name)
        most = self._parts.settings.max_auth_bytes
        if size > most:
            excess = LimitExceeded("bytes of a client's auth in memory", most, size, "max_auth_bytes")
            logger.warning(
                "refused a client of %s: %s",
                shorten(name),
                excess,
                extra=by_client(fields(namespace=name, connection=self._connection.number, option="max_auth_bytes")),
            )
            self._refuse(name, "Auth too large")
            return
        if channel is None and entering is None and self._is_full:
            self._refuse_another(name)
            return
        admission = Admission(
            self._parts,
            self._directory,
            name,
            self._connection,
            self._pending,
            self._dialect,
            packet.data,
            self._tell_first,
        )
        if channel is not None:
            channel.withdraw(admission.pid)
        if entering is not None:
            entering.ask(admission)
            return
        max_events = self._parts.settings.max_pending_events
        entering = Entering(
            self._connection,
            self._pending,
            max_events=max_events,
            replaces=channel is not None,
            earlier=self._ending.get(name),
        )
        entering.ask(admission)
        self._entering[name] = entering
        self._services.keep_task(asyncio.get_running_loop().create_task(self._admit(name, entering)))

    def _tell_first(self) -> bool:
        """Return whether the log tells of a refused namespace: it does of the first one of a connection."""
        is_first, self._has_told = not self._has_told, True
        return is_first

    def _refuse_another(self, name: str) -> None:
        if self._tell_first():
            logger.warning(
                "connection %d: refused to let the client into %s: it is in %d namespaces; "
                "max_namespaces sets the limit",
                self._connection.number,
                shorten(name),
                len(self._channels) + len(self._entering),
                extra=by_client(fields(namespace=name, connection=self._connection.number, option="max_namespaces")),
            )
        self._refuse(name, "Too many namespaces")

    def _refuse(self, name: str, message: str) -> None:
        refusal = self._dialect.refusal(message, None)
        self._connection.send(self._services.codec.encode_connect_error(name, refusal))

    @property
    def _is_full(self) -> bool:
        return len(self._channels) + len(self._entering) >= self._parts.settings.max_namespaces

    async def _admit(self, name: str, entering: Entering) -> None:
        try:
            admitted = await entering.run()
        finally:
            del self._entering[name]
        if admitted is None:
            self._remember(name)
            return
        admission, channel = admitted
        self._channels[name] = channel
        self._left.pop(name, None)
        channel.when_left = lambda: self._leave(name)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entering.hand_over(channel)
        if self._early_acks is not None:
            self._early_acks.hand_over(channel)
        await admission.replay()

    def _disconnect(self, packet: Packet) -> None:
        name = packet.namespace
        channel = self._channels.get(name)
        if channel is not None:
            channel.close("client namespace disconnect")
        elif (entering := self._entering.get(name)) is not None:
            entering.leave("client namespace disconnect")
        elif name not in self._left:
            raise self._violation("a namespace that is connected", f"DISCONNECT of {name}")

    def _leave(self, name: str) -> None:
        """Remove a socket that has ended; the client's later packets for it are ignored."""
        channel = self._channels.pop(name, None)
        if channel is not None:
            self._ending[name] = channel
            channel.when_released = partial(self._forget, name, channel)
            self._remember(name)
            self._expect_connect()

    def _forget(self, name: str, channel: Channel) -> None:
        if self._ending.get(name) is channel:
            del self._ending[name]

    def _remember(self, name: str) -> None:
        self._left[name] = None
        if len(self._left) > _REMEMBERED:
            del self._left[next(iter(self._left))]

    def _expect_connect(self) -> None:
        """Start the time limit for a connection without a namespace."""
        if not self._channels and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._parts.settings.connect_timeout_s, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        if not self._channels:
            logger.info(
                "closing a connection that joined no namespace in time: connect_timeout_s sets the limit",
                extra=by_client(fields(connection=self._connection.number, option="connect_timeout_s")),
            )
            self._connection.close("forced server close")
