"""A session that goes from one node to another: its claim, what its last home hands over, and what stays behind.

Events that still wait for an answer go with the session: the next home sends them again, and forwards the answers.
The handlers that wait for them stay where they run.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import msgspec

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.logs import get_logger
from waypost.server.emitting.acks import AtCut, PendingAck, PendingAcks
from waypost.server.recovery.elsewhere import Elsewhere
from waypost.server.recovery.handed import Handed, HandedAck, read_handed
from waypost.server.recovery.parked import Parked
from waypost.server.recovery.snapshot import Snapshot
from waypost.server.services import Services
from waypost.storage.base import Journal

__all__ = ["Crossing", "WorkElsewhere"]

logger = get_logger("waypost.cluster")

_DISCONNECT_S = 1.0
"""How much longer than ``handler_grace_s`` a claim waits: the earlier home tells of the disconnect in this time."""


class WorkElsewhere:
    """Handlers at another node that wait for an answer of the client. A `Working`.

    Args:
        node: The node.
        acks: What the client has not acknowledged.
        data: The session's data when it left the node.

    Attributes:
        data: The session's data when it left the node.
    """

    __slots__ = ("_acks", "_ended", "_node", "data")

    def __init__(self, node: str, acks: PendingAcks, data: dict[str, Any]) -> None:
        self.data = data
        self._node = node
        self._acks = acks
        self._ended = asyncio.Event()

    @property
    def is_working(self) -> bool:
        """Whether the last handler has not ended, as far as is known here."""
        return not self._ended.is_set()

    @property
    def waits_for_client(self) -> bool:
        """Whether handlers wait for an answer of the client."""
        return self.is_working and self._acks.awaits_answer_for(self._node)

    def running(self) -> list[str]:
        """Return the names of the handlers; here only where they are."""
        return [f"an event at node {self._node}"]

    async def done(self) -> None:
        """Wait until the last handler has ended. May be cancelled."""
        await self._ended.wait()

    def end(self) -> None:
        """Note that the last handler has ended."""
        self._ended.set()


class Crossing:
    """The sessions of one namespace that come from other nodes and go to them.

    Args:
        namespace: The namespace's name.
        services: The services that the server's parts share.
        elsewhere: The messages between the nodes.
        handler_grace_s: For how many seconds the handlers of an earlier life are waited for.
    """

    __slots__ = ("_elsewhere", "_grace_s", "_left_works", "_lent", "_namespace", "_services", "_works")

    def __init__(self, namespace: str, services: Services, elsewhere: Elsewhere, handler_grace_s: float) -> None:
        self._namespace = namespace
        self._services = services
        self._elsewhere = elsewhere
        self._grace_s = handler_grace_s
        # What code here waits for, of sessions that are at other nodes.
        self._lent = Parked()
        # The handlers that go on here without their client, and those elsewhere that the clients here have left.
        self._left_works: set[bytes] = set()
        self._works: dict[bytes, WorkElsewhere] = {}

    @property
    def is_possible(self) -> bool:
        """Whether there may be other nodes."""
        return self._elsewhere.nodes is not None

    # -- a session comes ------------------------------------------------------------------------------------

    async def claim(self, journal: Journal, key: bytes) -> Handed | None:
        """Wait until no other node has a life of a session, or for as long as one may take. May be cancelled.

        Returns:
            What its last home hands over; ``None`` for nothing.

        Raises:
            ClaimVoid: The client has gone on to another node.
            StorageError: The store did not answer.
        """
        try:
            async with asyncio.timeout(self._grace_s + _DISCONNECT_S):
                handed = await journal.claim_session(key)
        except TimeoutError:
            logger.warning(
                "%s: the node that a client was at before has not let go of its session within %g s "
                "(handler_grace_s, and %g s): the client is connected meanwhile",
                self._namespace, self._grace_s + _DISCONNECT_S, _DISCONNECT_S,
            )  # fmt: skip
            return None
        if not handed:
            return None
        try:
            return read_handed(handed)
        except msgspec.DecodeError as problem:
            logger.error("%s: what came with a session can't be read: %s", self._namespace, problem)
            return None

    def take_back(self, key: bytes) -> PendingAcks | None:
        """Return what code of this node waits for, of a session that comes back to it."""
        self._left_works.discard(key)
        return self._lent.take(key)

    def arrive(self, key: bytes, acks: PendingAcks, handed: Handed, data: dict[str, Any]) -> WorkElsewhere | None:
        """Take over what was handed over with a session.

        Args:
            key: The session's key.
            acks: What the session's new owner waits for.
            handed: What was handed over.
            data: The session's data.

        Returns:
            The handlers elsewhere that wait for the client; ``None`` if there are none.
        """
        acks.continue_from(handed.next_id)
        for one in handed.acks:
            self._adopt(key, acks, one)
        nodes = self._elsewhere.nodes
        if not handed.works or nodes is None or handed.node == nodes.name:
            return None
        work = self._works[key] = WorkElsewhere(handed.node, acks, data)
        return work

    def _adopt(self, key: bytes, acks: PendingAcks, one: HandedAck) -> None:
        nodes = self._elsewhere.nodes
        if nodes is None or one.node not in nodes.others:
            # It is this node's own, and among what was lent; or it is that of a dead node.
            return
        event = None
        if one.record is not None:
            try:
                event = self._services.codec.restore_event(one.record, self._namespace)
            except (MalformedPacket, EncodingFailed) as problem:
                logger.error("%s: a call can't be sent again: %s", self._namespace, problem)
        loop = asyncio.get_running_loop()
        until = None if one.left_s is None else loop.time() + one.left_s
        answered = partial(self._elsewhere.forward, self._namespace, key, one.node, one.ack_id)
        at_cut = AtCut.STAYS if event is None else AtCut.RESENDS
        acks.adopt(one.ack_id, PendingAck(event, answered, at_cut, until, one.node))
        self._elsewhere.watch(acks)
        if until is not None:
            loop.call_at(until, acks.forget, one.ack_id)

    # -- a session goes -------------------------------------------------------------------------------------

    def hand_over(self, key: bytes, sid: str, acks: PendingAcks | None, *, works: bool) -> bytes:
        """Return what the next home gets, and keep here what code of this node waits for.

        Args:
            key: The session's key.
            sid: The id of its socket.
            acks: The events without an answer; ``None`` for none.
            works: Whether handlers go on here that wait for an answer of the client.
        """
        nodes = self._elsewhere.nodes
        if nodes is None:
            return b""
        now = asyncio.get_running_loop().time()
        handed: list[HandedAck] = []
        if acks is not None:
            handed = [_hand(ack_id, one, nodes.name, now) for ack_id, one in acks.hand_on()]
            self._lent.put(key, sid, acks)
        earlier = self._works.pop(key, None)
        if works:
            self._left_works.add(key)
        works = works or (earlier is not None and earlier.is_working)
        next_id = 0 if acks is None else acks.next_id
        return msgspec.msgpack.encode(Handed(nodes.name, next_id, tuple(handed), works))

    def work_is_over(self, key: bytes, data: dict[str, Any]) -> None:
        """Note that the last handler of a session has ended here, and tell the node that the session is at."""
        self._left_works.discard(key)
        try:
            encoded = Snapshot(data, None, None).encode()
        except TypeError as problem:
            logger.error("%s: socket.data does not follow its session to another node: %s", self._namespace, problem)
            encoded = None
        self._elsewhere.tell_work_ended(self._namespace, key, encoded)

    def left_work(self, key: bytes) -> bool:
        """Return whether handlers of a session go on here that is at another node."""
        return key in self._left_works

    # -- what other nodes tell ------------------------------------------------------------------------------

    def answered(self, key: bytes, ack_id: int, arguments: list[Any] | None) -> None:
        """Take an acknowledgement that came to another node; ``None`` if none will ever come."""
        acks = self._lent.get(key)
        if acks is not None:
            acks.take_answer(ack_id, arguments)

    def take_work(self, key: bytes) -> WorkElsewhere | None:
        """Return the handlers elsewhere that a session's client has left, and follow them no more."""
        return self._works.pop(key, None)

    def tell_ended(self, sid: str) -> None:
        """Tell the other nodes that a session has ended for good."""
        self._elsewhere.tell_ended(self._namespace, sid)

    def forget(self, sid: str) -> None:
        """End the wait for a client whose session has ended."""
        acks = self._lent.take_of(sid)
        if acks is not None:
            acks.close()

    def close(self) -> None:
        """End all waits: the store is closed."""
        self._lent.close()
        self._left_works.clear()
        self._works.clear()


def _hand(ack_id: int, one: PendingAck, me: str, now: float) -> HandedAck:
    record = None
    if one.at_cut is AtCut.RESENDS and one.event is not None:
        try:
            record = one.event.to_record()
        except EncodingFailed as problem:
            logger.warning("call %r can't be sent again by another node: %s", one.event.event, problem)
    return HandedAck(ack_id, one.node or me, record, None if one.until is None else max(one.until - now, 0))
