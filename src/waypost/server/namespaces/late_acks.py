"""Acks that come over a connection after the server has ended it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from waypost.protocol.codec import PacketDecoder
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import PacketType
from waypost.server.namespaces.channel import Channel
from waypost.server.watching.counters import Counters

__all__ = ["LateAcks"]

_MOST_BYTES = 64 << 10


class LateAcks:
    """Hears the acks of a client that did not notice yet that its connection has ended.

    A worker that blocks its event loop for longer than a heartbeat may take is cut off. It acknowledges its message
    first, and sees the end of its connection afterwards. So these acks count for its sessions, which may recover.

    Args:
        channels: The sockets that have just ended.
        decoder: The connection's decoder.
        counters: The server's counters.
        most: The most messages that are heard.

    Attributes:
        when_heard: Called when nothing more is expected.
    """

    __slots__ = ("_counters", "_decoder", "_left", "_left_bytes", "_pending", "when_heard")

    def __init__(self, channels: Iterable[Channel], decoder: PacketDecoder, counters: Counters, most: int) -> None:
        self._pending = {channel.namespace: channel.out.acks for channel in channels if len(channel.out.acks)}
        self._decoder = decoder
        self._counters = counters
        self._left = most
        self._left_bytes = _MOST_BYTES
        self.when_heard: Callable[[], object] = _nothing

    @property
    def is_expected(self) -> bool:
        """Whether a client may still acknowledge something."""
        return any(map(len, self._pending.values())) and self._left > 0 and self._left_bytes > 0

    def receive(self, frame: Frame) -> None:
        """Take a frame of the ended connection.

        Raises:
            ProtocolViolation: The frame is unreadable.
        """
        if not self.is_expected or (isinstance(frame, str) and not frame.startswith("4")):
            return
        self._left -= 1
        self._left_bytes -= len(frame)
        packet = self._decoder.feed(frame)
        if packet is None or packet.type is not PacketType.ACK or packet.ack_id is None:
            return
        pending = self._pending.get(packet.namespace)
        if pending is None or not pending.receive(packet.ack_id, packet.data):
            self._counters.unexpected_acks += 1
        self._look()

    def _look(self) -> None:
        if not self.is_expected:
            self.when_heard()


def _nothing() -> None:
    """Note nothing: nobody waits."""
