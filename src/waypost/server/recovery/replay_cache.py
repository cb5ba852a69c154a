"""Events from a journal, decoded once for all clients that missed them."""

from __future__ import annotations

from collections import OrderedDict

from waypost.errors import EncodingFailed
from waypost.logs import fields, get_logger
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.basics.targets import Target, read_record
from waypost.storage.journal_records import Entry

__all__ = ["ReplayCache"]

logger = get_logger("waypost.recovery")


class ReplayCache:
    """The events that replays have used last.

    After a restart thousands of clients miss the same events. The cache decodes each event, and encodes its frames,
    once.

    Args:
        namespace: The journal's namespace.
        codec: The codec of the packets.
        max_bytes: The most bytes of records that stay decoded.
    """

    __slots__ = ("_bytes", "_codec", "_decoded", "_max_bytes", "_namespace")

    def __init__(self, namespace: str, codec: Codec, max_bytes: int) -> None:
        self._namespace = namespace
        self._codec = codec
        self._max_bytes = max_bytes
        self._bytes = 0
        self._decoded: OrderedDict[int, tuple[Target, EncodedEvent | EncodingFailed, int]] = OrderedDict()

    def read(self, entry: Entry) -> tuple[Target, EncodedEvent | EncodingFailed]:
        """Return an entry's target and event; an error instead of the event if no packet can carry it.

        Raises:
            MalformedPacket: The entry is not a record.
        """
        found = self._decoded.get(entry.position)
        if found is not None:
            return found[0], found[1]
        target, event = read_record(entry.record, self._namespace, self._codec)
        if isinstance(event, EncodingFailed):
            logger.warning(
                "%s: clients that missed event %d start anew: %s",
                self._namespace,
                entry.position,
                event,
                extra=fields(namespace=self._namespace, position=entry.position),
            )
        size = len(entry.record)
        self._decoded[entry.position] = (target, event, size)
        self._bytes += size
        while self._bytes > self._max_bytes and len(self._decoded) > 1:
            # Drops the oldest first: clients that come back later have missed newer events.
            self._bytes -= self._decoded.popitem(last=False)[1][2]
        return target, event
