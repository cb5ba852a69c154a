"""The messages between nodes about sessions: answers to calls, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Protocol
from weakref import WeakSet, WeakValueDictionary

import msgspec

from waypost.errors import EncodingFailed, MalformedPacket, StorageError
from waypost.logs import fields, get_logger
from waypost.protocol.records import read_values
from waypost.server.emitting.acks import PendingAcks
from waypost.server.recovery.handed import Answered, CallsLost, Message, SessionsEnded, WorkEnded, read_message
from waypost.server.services import Services
from waypost.storage.following import EVERYBODY, Nodes

__all__ = ["Elsewhere", "Resident"]

logger = get_logger("waypost.cluster")

_TOPIC = "sessions"
_ANSWER = "answer"


class Resident(Protocol):
    """The sessions of one namespace, for what other nodes tell of them."""

    def answered(self, key: bytes, ack_id: int, arguments: list[Any] | None) -> None:
        """Take an acknowledgement of an event that this node has sent; ``None`` if none will ever come."""
        ...

    def ended(self, sids: Collection[str]) -> None:
        """End what is still kept here for sessions that have ended elsewhere."""
        ...

    def calls_lost(self, key: bytes) -> None:
        """End the calls to a client that went on to another node with a session, where they were lost."""
        ...

    def work_ended(self, works: str, data: bytes | None) -> None:
        """Note that the last of the handlers of that name has ended, with this state of the session."""
        ...

    def node_died(self, node: str) -> None:
        """Note that a node is dead, and the handlers there with it."""
        ...


class Elsewhere:
    """The messages between the nodes about sessions. Without other nodes it does nothing.

    Args:
        services: The services that the server's parts share.
    """

    __slots__ = ("_ended", "_foreign", "_lost", "_residents", "_services")

    def __init__(self, services: Services) -> None:
        self._services = services
        self._residents: WeakValueDictionary[str, Resident] = WeakValueDictionary()
        self._foreign: WeakSet[PendingAcks] = WeakSet()
        self._ended: dict[str, list[str]] = {}
        self._lost: dict[str, list[bytes]] = {}

    @property
    def nodes(self) -> Nodes | None:
        """The other nodes; ``None`` in a store of one process, and while the store is closed."""
        return self._services.store.nodes

    def enroll(self, namespace: str, resident: Resident) -> None:
        """Take messages for a namespace."""
        self._residents[namespace] = resident

    def start(self) -> None:
        """Listen to the other nodes; once for each opening of the store."""
        nodes = self.nodes
        if nodes is not None:
            nodes.listen(_TOPIC, self._receive)
            nodes.watch(self._changed)

    def watch(self, acks: PendingAcks) -> None:
        """Forget in these pending acknowledgements what nodes wait for that die."""
        self._foreign.add(acks)

    # -- to the others --------------------------------------------------------------------------------------

    def forward(self, namespace: str, key: bytes, node: str, ack_id: int, arguments: list[Any] | None) -> None:
        """Send the acknowledgement of an event to the node that waits for it; ``None`` if none will ever come."""
        record = None
        if arguments is not None:
            try:
                record = self._services.codec.encode_event(namespace, _ANSWER, arguments).to_record()
            except EncodingFailed as problem:
                logger.error(
                    "%s: an answer for node %s can't be forwarded: %s",
                    namespace,
                    node,
                    problem,
                    extra=fields(namespace=namespace, node=node),
                )
        self._send(node, Answered(namespace, key, ack_id, record))

    def tell_ended(self, namespace: str, sid: str) -> None:
        """Tell the others that a session has ended for good; together with those that end at the same time."""
        nodes = self.nodes
        if nodes is None or not nodes.others:
            return
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._tell_all_ended)
        self._ended.setdefault(namespace, []).append(sid)

    def _tell_all_ended(self) -> None:
        ended, self._ended = self._ended, {}
        self._send(EVERYBODY, SessionsEnded(ended))

    def tell_calls_lost(self, namespace: str, key: bytes) -> None:
        """Tell the others that nothing was handed over with a session; together with others of this moment."""
        nodes = self.nodes
        if nodes is None or not nodes.others:
            return
        if not self._lost:
            asyncio.get_running_loop().call_soon(self._tell_all_lost)
        self._lost.setdefault(namespace, []).append(key)

    def _tell_all_lost(self) -> None:
        lost, self._lost = self._lost, {}
        self._send(EVERYBODY, CallsLost(lost))

    def tell_work_ended(self, namespace: str, works: str, data: bytes | None) -> None:
        """Tell the others that the last of the handlers has ended that went on here when their client left."""
        self._send(EVERYBODY, WorkEnded(namespace, works, data))

    def _send(self, receiver: str | None, message: Message) -> None:
        nodes = self.nodes
        if nodes is None:
            return
        try:
            nodes.send(receiver, _TOPIC, msgspec.msgpack.encode(message))
        except StorageError as problem:
            logger.debug("other nodes are not told of sessions: %s", problem)

    # -- from the others ------------------------------------------------------------------------------------

    def _receive(self, sender: str, message: bytes) -> None:
        nodes = self.nodes
        if nodes is None or sender == nodes.name:
            return
        try:
            self._take(read_message(message))
        except (msgspec.DecodeError, MalformedPacket) as problem:
            logger.error("node %s has sent what can't be read: %s", sender, problem, extra=fields(node=sender))

    def _take(self, message: Message) -> None:
        if isinstance(message, SessionsEnded):
            for namespace, sids in message.sids.items():
                resident = self._residents.get(namespace)
                if resident is not None:
                    resident.ended(sids)
            return
        if isinstance(message, CallsLost):
            for namespace, keys in message.keys.items():
                resident = self._residents.get(namespace)
                if resident is not None:
                    for key in keys:
                        resident.calls_lost(key)
            return
        resident = self._residents.get(message.namespace)
        if resident is None:
            return
        if isinstance(message, Answered):
            arguments = None if message.record is None else read_values(message.record)[1:]
            resident.answered(message.key, message.ack_id, arguments)
        else:
            resident.work_ended(message.works, message.data)

    def _changed(self, node: str, is_there: bool) -> None:
        if not is_there:
            for acks in list(self._foreign):
                acks.forget_node(node)
            for resident in list(self._residents.values()):
                resident.node_died(node)
