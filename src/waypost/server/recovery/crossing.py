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
from waypost.logs import fields, get_logger
from waypost.server.emitting.acks import AtCut, PendingAck, PendingAcks
from waypost.server.recovery.elsewhere import Elsewhere
from waypost.server.recovery.handed import Handed, HandedAck, read_handed
from waypost.server.recovery.lives import Life
from waypost.server.recovery.parked import Parked
from waypost.server.recovery.snapshot import Snapshot, rebase
from waypost.server.services import Services
from waypost.storage.base import Journal

__all__ = ["Crossing", "WorkElsewhere"]

logger = get_logger("waypost.cluster")

_DISCONNECT_S = 1.0
"""How much longer than ``handler_grace_s`` a claim waits: the earlier home tells of the disconnect in this time."""


class WorkElsewhere:
    """Handlers at another node that wait for an answer of the client. A `Working`.

    Args:
        key: The session's key.
        node: The node.
        acks: What the client has not acknowledged.
        before: The session's data when it left the node.
        data: The data of the member here that follows them.

    Attributes:
        key: The session's key.
        node: The node.
        data: The data of the member here that follows them.
    """

    __slots__ = ("_acks", "_before", "_ended", "data", "key", "node")

    def __init__(
        self, key: bytes, node: str, acks: PendingAcks, before: dict[str, Any], data: dict[str, Any]
    ) -> None:
        self.key = key
        self.node = node
        self.data = data
        self._before = before
        self._acks = acks
        self._ended = asyncio.Event()

    @property
    def is_working(self) -> bool:
        """Whether the last handler has not ended, as far as is known here."""
        return not self._ended.is_set()

    @property
    def waits_for_client(self) -> bool:
        """Whether handlers wait for an answer of the client; perhaps those of a third node, for which these wait."""
        return self.is_working and self._acks.is_awaited_elsewhere

    def running(self) -> list[str]:
        """Return the names of the handlers; here only where they are."""
        return [f"an event at node {self.node}"]

    async def done(self) -> None:
        """Wait until the last handler has ended. May be cancelled."""
        await self._ended.wait()

    def end(self, latest: dict[str, Any] | None) -> None:
        """Note that the last handler has ended, with this data; ``None`` if nothing is known of it."""
        if latest is not None:
            rebase(self.data, self._before, latest)
        self._ended.set()


class Crossing:
    """The sessions of one namespace that come from other nodes and go to them.

    Args:
        namespace: The namespace's name.
        services: The services that the server's parts share.
        elsewhere: The messages between the nodes.
        handler_grace_s: For how many seconds the handlers of an earlier life are waited for.
    """

    __slots__ = ("_elsewhere", "_grace_s", "_left_works", "_lent", "_namespace", "_number", "_services", "_works")

    def __init__(self, namespace: str, services: Services, elsewhere: Elsewhere, handler_grace_s: float) -> None:
        self._namespace = namespace
        self._services = services
        self._elsewhere = elsewhere
        self._grace_s = handler_grace_s
        # What code here waits for, of sessions that are at other nodes.
        self._lent = Parked()
        # The lives whose handlers go on here without their client, and the handlers elsewhere that clients came from.
        self._left_works: dict[Life, str] = {}
        self._works: dict[str, WorkElsewhere] = {}
        self._number = 0

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
                extra=fields(namespace=self._namespace, option="handler_grace_s"),
            )  # fmt: skip
            return None
        if not handed:
            return None
        try:
            return read_handed(handed)
        except msgspec.DecodeError as problem:
            logger.error(
                "%s: what came with a session can't be read: %s",
                self._namespace,
                problem,
                extra=fields(namespace=self._namespace),
            )
            return None

    def take_back(self, key: bytes) -> PendingAcks | None:
        """Return what code of this node waits for, of a session that comes back to it."""
        return self._lent.take(key)

    def arrive(
        self, key: bytes, acks: PendingAcks, handed: Handed, before: dict[str, Any], data: dict[str, Any]
    ) -> WorkElsewhere | None:
        """Take over what was handed over with a session.

        Args:
            key: The session's key.
            acks: What the session's new owner waits for.
            handed: What was handed over.
            before: The session's data, as it was stored.
            data: The new owner's data.

        Returns:
            The handlers elsewhere that wait for the client; ``None`` if there are none.
        """
        acks.continue_from(handed.next_id)
        for one in handed.acks:
            self._adopt(key, acks, one)
        nodes = self._elsewhere.nodes
        node = handed.works.partition("/")[0]
        if nodes is None or node not in nodes.others:
            return None
        work = self._works[handed.works] = WorkElsewhere(key, node, acks, before, data)
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
                logger.error(
                    "%s: a call can't be sent again: %s",
                    self._namespace,
                    problem,
                    extra=fields(namespace=self._namespace),
                )
        loop = asyncio.get_running_loop()
        until = None if one.left_s is None else loop.time() + one.left_s
        answered = partial(self._elsewhere.forward, self._namespace, key, one.node, one.ack_id)
        at_cut = AtCut.STAYS if event is None else AtCut.RESENDS
        acks.adopt(one.ack_id, PendingAck(event, answered, at_cut, until, one.node))
        self._elsewhere.watch(acks)
        if until is not None:
            loop.call_at(until, acks.forget, one.ack_id)

    # -- a session goes -------------------------------------------------------------------------------------

    def hand_over(self, key: bytes, sid: str, acks: PendingAcks | None, life: Life | None) -> bytes:
        """Return what the next home gets, and keep here what code of this node waits for.

        Args:
            key: The session's key.
            sid: The id of its socket.
            acks: The events without an answer; ``None`` for none.
            life: The life whose handlers go on here and wait for an answer of the client, if there is one.
        """
        nodes = self._elsewhere.nodes
        if nodes is None:
            return b""
        now = asyncio.get_running_loop().time()
        handed: list[HandedAck] = []
        if acks is not None:
            handed = [_hand(ack_id, one, nodes.name, now) for ack_id, one in acks.hand_on()]
            self._lent.put(key, sid, acks)
        if life is not None:
            works = self._left_works.setdefault(life, f"{nodes.name}/{self._number}")
            self._number += 1
        else:
            works = next((name for name, work in self._works.items() if work.key == key and work.is_working), "")
        next_id = 0 if acks is None else acks.next_id
        return msgspec.msgpack.encode(Handed(nodes.name, next_id, tuple(handed), works))

    def work_is_over(self, life: Life) -> None:
        """Note that the last handler of a life has ended, and tell the others if its client has left before."""
        works = self._left_works.pop(life, None)
        if works is None:
            return
        encoded = None
        try:
            encoded = Snapshot(life.data, None, None).encode()
        except TypeError as problem:
            logger.error(
                "%s: socket.data does not follow its session to another node: %s",
                self._namespace,
                problem,
                extra=fields(namespace=self._namespace),
            )
        self._elsewhere.tell_work_ended(self._namespace, works, encoded)

    # -- what other nodes tell ------------------------------------------------------------------------------

    def answered(self, key: bytes, ack_id: int, arguments: list[Any] | None) -> None:
        """Take an acknowledgement that came to another node; ``None`` if none will ever come."""
        acks = self._lent.get(key)
        if acks is not None:
            acks.take_answer(ack_id, arguments)

    def calls_lost(self, key: bytes) -> None:
        """End the calls to a client that has gone on to other nodes, of which the last one has told nothing."""
        acks = self._lent.get(key)
        if acks is not None:
            acks.end_calls()

    def work_ended(self, works: str, data: bytes | None) -> WorkElsewhere | None:
        """Note that handlers elsewhere have ended; returns them if a client here came from them.

        Raises:
            MalformedPacket: The data can't be read.
        """
        work = self._works.pop(works, None)
        if work is not None:
            work.end(None if data is None else Snapshot.decode(data).data)
        return work

    def node_died(self, node: str) -> None:
        """Note that a node is dead, and its handlers with it."""
        for works in [works for works, work in self._works.items() if work.node == node]:
            self._works.pop(works).end(None)

    def tell_calls_lost(self, key: bytes) -> None:
        """Tell the other nodes that nothing was handed over with a session: a node that had it is dead."""
        self._elsewhere.tell_calls_lost(self._namespace, key)

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
            logger.warning(
                "call %r can't be sent again by another node: %s",
                one.event.event,
                problem,
                extra=fields(event=one.event.event),
            )
    return HandedAck(ack_id, one.node or me, record, None if one.until is None else max(one.until - now, 0))
