"""The other nodes on the store, as a node sees them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import msgspec

from waypost.storage.engine_state import EngineState
from waypost.storage.following import QueueFollower, Ways
from waypost.storage.remote.connection import Call, Connection
from waypost.storage.wire import reports, requests

__all__ = ["RemoteNodes"]

_OWNER: Final = msgspec.msgpack.Decoder(str)


class RemoteNodes:
    """The other nodes on the store; see `waypost.storage.following.Nodes`.

    Args:
        name: This node's name.
        others: The names of the others.
        connection: The way to the host.

    Attributes:
        name: This node's name.
    """

    __slots__ = ("_connection", "_listeners", "_others", "_queue_follower", "_watchers", "name")

    def __init__(self, name: str, others: Collection[str], connection: Connection) -> None:
        self.name = name
        self._others = dict.fromkeys(others)
        self._connection = connection
        self._listeners: dict[str, Callable[[str, bytes], None]] = {}
        self._watchers: list[Callable[[str, bool], None]] = []
        self._queue_follower: QueueFollower | None = None
        connection.handlers |= {
            reports.Message: self._received,
            reports.Came: self._came,
            reports.Gone: self._gone,
            reports.Arrived: self._arrived,
            reports.Released: self._released,
            reports.Freed: self._freed,
        }

    @property
    def others(self) -> Collection[str]:
        """The names of the other nodes that are alive."""
        return tuple(self._others)

    def send(self, receiver: str | None, topic: str, message: bytes, *, may_drop: bool = False) -> None:
        """Send a message to a node, or to everybody."""
        self._connection.send(requests.Send(receiver, topic, message, may_drop))

    def listen(self, topic: str, receive: Callable[[str, bytes], None] | None) -> None:
        """Call a function with the sender and the content of each message on a topic; ``None`` ends that."""
        if receive is None:
            self._listeners.pop(topic, None)
        else:
            self._listeners[topic] = receive

    @property
    def ways(self) -> Ways | None:
        """Always ``None``: the parent of the nodes links their processes."""
        return None

    def watch(self, changed: Callable[[str, bool], None]) -> None:
        """Call a function with the name of each other node that comes (True) or is gone (False)."""
        self._watchers.append(changed)

    async def claim_consumer(self, queue: str, consumer: str) -> str:
        """Own a consumer, if no other living node does; returns who owns it."""
        call = self._connection.next_call()
        pending = Call(self._connection.new_future(), _OWNER.decode, f"own consumer {consumer}")
        owner: str = await self._connection.ask(call, requests.ClaimConsumer(call, queue, consumer), pending)
        return owner

    async def release_consumer(self, queue: str, consumer: str) -> None:
        """Own a consumer no more, after all earlier writes for it."""
        call = self._connection.next_call()
        pending: Call[None] = Call(self._connection.new_future(), lambda _: None, f"release consumer {consumer}")
        await self._connection.ask(call, requests.ReleaseConsumer(call, queue, consumer), pending)

    def follow_queues(self, follower: QueueFollower) -> None:
        """Set the follower of queues."""
        self._queue_follower = follower

    def state(self) -> EngineState | None:
        """Return nothing: the host is the engine, and says by itself what is wrong with it."""
        return None

    # -- reports ---------------------------------------------------------------------------------------------

    def _received(self, message: reports.Message) -> None:
        receive = self._listeners.get(message.topic)
        if receive is not None:
            receive(message.sender, message.message)

    def _came(self, message: reports.Came) -> None:
        self._others[message.name] = None
        for changed in [*self._watchers]:
            changed(message.name, True)

    def _gone(self, message: reports.Gone) -> None:
        self._others.pop(message.name, None)
        for changed in [*self._watchers]:
            changed(message.name, False)

    def _arrived(self, message: reports.Arrived) -> None:
        if self._queue_follower is not None:
            self._queue_follower.arrived(message.queue, message.messages, message.enqueued)

    def _released(self, message: reports.Released) -> None:
        if self._queue_follower is not None:
            self._queue_follower.released(message.due)

    def _freed(self, message: reports.Freed) -> None:
        if self._queue_follower is not None:
            self._queue_follower.freed(message.queue, message.consumer)
