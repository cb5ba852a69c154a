"""An event that asks members of this server for acknowledgements: who was asked, and who has answered or left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from waypost.server.emitting.acks import AtCut

if TYPE_CHECKING:
    from waypost.protocol.codec import Codec, EncodedEvent
    from waypost.server.emitting.members import Member

__all__ = ["AckRound"]


class AckRound:
    """One round of questions to members of this server, and their answers.

    Args:
        codec: The codec of packets.
        event: The event.
        volatile: Whether to ask only members that can take the event at once.
        compress: Whether the transport may compress the packet.
        answered: Called with the socket's id and the acknowledgement's arguments; with ``None`` if its connection has
            ended before.

    Attributes:
        missing: The ids of the sockets that did not answer in time, or could not take a volatile event.
    """

    __slots__ = ("_answered", "_codec", "_compress", "_event", "_volatile", "_waiting", "missing")

    def __init__(
        self,
        codec: Codec,
        event: EncodedEvent,
        answered: Callable[[str, list[Any] | None], None],
        *,
        volatile: bool,
        compress: bool,
    ) -> None:
        self.missing: list[str] = []
        self._codec = codec
        self._event = event
        self._answered = answered
        self._volatile = volatile
        self._compress = compress
        self._waiting: dict[Member, int] = {}

    @property
    def waiting(self) -> Collection[Member]:
        """The members that may still answer."""
        return self._waiting

    def ask(self, member: Member) -> None:
        """Send a member the event."""
        # A client without an answer to its CONNECT can't answer an event.
        if not member.connected:
            return
        if self._volatile and not member.out.is_writable:
            self.missing.append(member.sid)
            return
        event = self._event_in(member.namespace)
        # Ends with the connection: otherwise a closed page would delay the result until the timeout.
        ack_id, answer = member.out.send_expecting_ack(event, AtCut.ENDS, compress=self._compress)
        self._waiting[member] = ack_id
        answer.add_done_callback(partial(self._take, member))

    def _event_in(self, namespace: str) -> EncodedEvent:
        """Return the event for a namespace: the operator of a parent addresses several namespaces."""
        if self._event.namespace != namespace:
            self._event = self._codec.restore_event(self._event.to_record(), namespace)
        return self._event

    def _take(self, member: Member, answer: asyncio.Future[list[Any] | None]) -> None:
        if self._waiting.pop(member, None) is not None:
            self._answered(member.sid, answer.result())

    def give_up(self) -> None:
        """Stop waiting for all members."""
        for member, ack_id in self._waiting.items():
            member.out.acks.forget(ack_id)
            self.missing.append(member.sid)
        self._waiting.clear()
