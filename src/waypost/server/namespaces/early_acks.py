"""Acks that come over a connection before its client is in their namespace."""

from __future__ import annotations

from waypost.protocol.codec import PacketDecoder
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import Packet
from waypost.server.namespaces.channel import Channel
from waypost.server.watching.counters import Counters

__all__ = ["EarlyAcks"]

_MOST_BYTES = 64 << 10


class EarlyAcks:
    """Acks that wait for the session of their client.

    An official client that was busy while its line was cut sends its old acks first, and CONNECT then. They belong to
    the session that CONNECT names: if it recovers, they count. Otherwise they are ignored, and counted as unexpected.

    Args:
        counters: The server's counters.
        decoder: The connection's decoder.
        most: The most acks that are kept.
    """

    __slots__ = ("_bytes", "_counters", "_decoder", "_held", "_most")

    def __init__(self, counters: Counters, decoder: PacketDecoder, most: int) -> None:
        self._counters = counters
        self._decoder = decoder
        self._most = most
        self._held: list[Packet] = []
        self._bytes = 0

    def take_part(self, message: Frame) -> None:
        """Count a part of an ack that waits for more. If there is no room for it, nothing of it is kept."""
        self._bytes += len(message)
        if self._bytes > _MOST_BYTES or len(self._held) >= self._most:
            self._decoder.drop_attachments()

    def hold(self, packet: Packet, message: Frame) -> None:
        """Keep an ack with the message that completed it, if there is room for it."""
        self._bytes += len(message)
        if len(self._held) < self._most and self._bytes <= _MOST_BYTES:
            self._held.append(packet)
        else:
            self._counters.unexpected_acks += 1

    def hand_over(self, channel: Channel) -> None:
        """Pass the acks of a channel's namespace to the channel, if it has recovered its session."""
        mine = [packet for packet in self._held if packet.namespace == channel.namespace]
        self._held = [packet for packet in self._held if packet.namespace != channel.namespace]
        for packet in mine:
            if channel.recovered:
                channel.receive_ack(packet)
            else:
                self._counters.unexpected_acks += 1
