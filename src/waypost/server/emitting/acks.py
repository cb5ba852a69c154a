"""The acknowledgements that one client still owes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any, NamedTuple

from waypost.protocol.codec import EncodedEvent
from waypost.protocol.engineio import Frame

__all__ = ["AtCut", "PendingAck", "PendingAcks"]


class AtCut(Enum):
    """The effect of a lost connection on an event without an answer, if the client's session may recover."""

    ENDS = auto()
    """The wait ends."""
    RESENDS = auto()
    """The event is sent again when the session recovers."""
    STAYS = auto()
    """The wait goes on, and the event is not sent again: the client may have it, and answer later."""


class PendingAck(NamedTuple):
    """An event without an answer.

    Attributes:
        event: The event; ``None`` for one of another node that is not sent again.
        taken: Called with the answer; see `PendingAcks.expect_for`.
        at_cut: What the loss of the connection means to it.
        until: The event loop's time at which nobody waits for the answer any more; ``None`` for no limit.
        node: The node that waits for the answer; ``None`` for this one.
    """

    event: EncodedEvent | None
    taken: Callable[[list[Any] | None], None]
    at_cut: AtCut
    until: float | None = None
    node: str | None = None


class PendingAcks:
    """Events that wait for their acknowledgement, by ack id. Each gets at most one answer.

    They belong to a session, and go with it from one connection to the next. Ack ids grow, so they also tell which
    events have certainly arrived: all up to the last event before an answered heartbeat, or up to an answered event.

    Args:
        first_id: The first ack id. A client may acknowledge on a new connection an event of an old one. So every
            session starts at another id, and a stale acknowledgement has an unknown id. All ids are below 2³¹,
            because the Java client reads them as 32 bits.
    """

    __slots__ = ("__weakref__", "_arrived", "_last_staying", "_next_id", "_pending", "_pinged")

    def __init__(self, first_id: int) -> None:
        self._pending: dict[int, PendingAck] = {}
        self._next_id = first_id
        self._arrived = self._last_staying = first_id - 1
        # The number of each heartbeat that is not answered yet, and the last ack id before it.
        self._pinged: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def expect(
        self, event: EncodedEvent, at_cut: AtCut, *, within_s: float | None = None
    ) -> tuple[int, asyncio.Future[list[Any] | None]]:
        """Wait for an event's acknowledgement.

        Args:
            event: The event that is sent.
            at_cut: What the loss of the connection means to the event.
            within_s: After how many seconds the caller stops waiting; another node that has the client then needs it.

        Returns:
            The ack id, and a future of the acknowledgement's arguments, or of ``None`` if it will never arrive.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Any] | None] = loop.create_future()

        def take(arguments: list[Any] | None) -> None:
            if not answer.done():
                answer.set_result(arguments)

        return self.expect_for(take, event, at_cut, None if within_s is None else loop.time() + within_s), answer

    def expect_for(
        self,
        taken: Callable[[list[Any] | None], None],
        event: EncodedEvent,
        at_cut: AtCut,
        until: float | None = None,
    ) -> int:
        """Wait for an event's acknowledgement with a callback, which costs less than a future.

        Args:
            taken: Called once with the acknowledgement's arguments, or with ``None`` if it will never arrive; must
                not raise.
            event: As for `expect`.
            at_cut: As for `expect`.
            until: The event loop's time at which the caller stops waiting.

        Returns:
            The ack id.
        """
        ack_id = self._next_id
        self._next_id += 1
        self._pending[ack_id] = PendingAck(event, taken, at_cut, until)
        if at_cut is AtCut.STAYS:
            self._last_staying = ack_id
        return ack_id

    def receive(self, ack_id: int, arguments: list[Any]) -> bool:
        """Pass an acknowledgement to the code that waits for it.

        Returns:
            Whether the ack id was known.
        """
        pending = self._pending.pop(ack_id, None)
        if pending is None:
            return False
        if ack_id > self._arrived:
            self._arrived = ack_id
        pending.taken(arguments)
        return True

    def heartbeat_sent(self, number: int) -> None:
        """Note that the connection's heartbeat of this number follows the events that were sent so far."""
        self._pinged.append((number, self._next_id - 1))

    def heartbeat_answered(self, number: int) -> None:
        """Note that the events before a heartbeat have arrived."""
        while self._pinged and self._pinged[0][0] <= number:
            _, last_id = self._pinged.popleft()
            self._arrived = max(self._arrived, last_id)

    @property
    def awaits_arrival(self) -> bool:
        """Whether an event that stays at a cut has perhaps not arrived."""
        return self._last_staying > self._arrived

    def mark(self) -> int:
        """Return a number that `has_arrived` knows once the client has handled all that it was sent so far."""
        self._last_staying = self._next_id
        self._next_id += 1
        return self._last_staying

    def has_arrived(self, ack_id: int) -> bool:
        """Return whether an event has certainly arrived, over the connection on which it was sent."""
        return ack_id <= self._arrived

    def forget(self, ack_id: int) -> None:
        """Stop waiting for an acknowledgement; a late one is ignored."""
        self._pending.pop(ack_id, None)

    def lose_connection(self) -> None:
        """Go on without a connection: end the wait for the events that it ends for."""
        self._pinged.clear()
        self._end([ack_id for ack_id, pending in self._pending.items() if pending.at_cut is AtCut.ENDS])

    def close(self) -> None:
        """End the wait for all events."""
        self._end(list(self._pending))

    def to_resend(self) -> Iterator[tuple[Frame, ...]]:
        """Return the frames of the unanswered events to be sent again, in the order in which they were sent."""
        for ack_id, pending in sorted(self._pending.items()):
            if pending.at_cut is AtCut.RESENDS and pending.event is not None:
                yield pending.event.frames_with_ack(ack_id)

    # -- over nodes -----------------------------------------------------------------------------------------

    @property
    def next_id(self) -> int:
        """The next ack id."""
        return self._next_id

    def continue_from(self, next_id: int) -> None:
        """Use no ack id below one that another node would have used next for the same session."""
        self._next_id = max(self._next_id, next_id)

    def adopt(self, ack_id: int, pending: PendingAck) -> None:
        """Wait for the acknowledgement of an event that another node has sent."""
        self._pending.setdefault(ack_id, pending)

    def expect_as(
        self, ack_id: int, taken: Callable[[list[Any] | None], None], event: EncodedEvent, at_cut: AtCut
    ) -> None:
        """Wait for the acknowledgement of an event that the client was sent by another server; see `expect_for`.

        The code that waited for this id before is not called.
        """
        self._pending[ack_id] = PendingAck(event, taken, at_cut)

    def hand_on(self) -> list[tuple[int, PendingAck]]:
        """Return all events without an answer, and stop waiting for those of other nodes: the next node does that."""
        pending = sorted(self._pending.items())
        self._pending = {ack_id: one for ack_id, one in pending if one.node is None}
        return pending

    @property
    def is_awaited_elsewhere(self) -> bool:
        """Whether another node waits for an answer to an event that is sent again."""
        return any(one.node is not None and one.at_cut is AtCut.RESENDS for one in self._pending.values())

    def take_answer(self, ack_id: int, arguments: list[Any] | None) -> None:
        """Take an acknowledgement that came to another node; ``None`` if none will ever come."""
        pending = self._pending.pop(ack_id, None)
        if pending is not None:
            pending.taken(arguments)

    def end_calls(self) -> None:
        """End the wait for the events that are sent again: nobody sends them any more."""
        self._end([ack_id for ack_id, one in self._pending.items() if one.at_cut is AtCut.RESENDS])

    def forget_node(self, node: str) -> None:
        """Stop waiting for the events of a node that is gone: nobody would get the answers."""
        self._pending = {ack_id: one for ack_id, one in self._pending.items() if one.node != node}

    def _end(self, ack_ids: list[int]) -> None:
        for ack_id in ack_ids:
            self._pending.pop(ack_id).taken(None)
