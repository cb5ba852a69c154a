"""Messages between servers of one process, in one order for all; their stores stay apart."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from tests.server.model_client import hub_of
from waypost.application import Server
from waypost.storage.following import QueueFollower

__all__ = ["Exchange", "Node"]


class Exchange:
    """Carries messages between nodes, in the order in which they are sent.

    Attributes:
        nodes: The nodes that are alive, by name.
        sent: How many messages went, by topic.
        stores: What the servers use as their stores.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.sent: dict[str, int] = {}
        self.stores: list[_Joined] = []

    def add(self, server: Server, name: str) -> Node:
        """Let a server that has not started be one of the nodes."""
        node = self.nodes[name] = Node(self, name)
        services = hub_of(server).services
        services.store = joined = _Joined(services.store, node)
        self.stores.append(joined)
        for other in list(self.nodes.values()):
            if other is not node:
                other.put(partial(other.changed, name, True))
        return node

    def share_answers(self, store: Any) -> None:
        """Let all nodes use the answers of one store."""
        for joined in self.stores:
            joined.answers = store.answers

    def kill(self, node: Node) -> None:
        """Let a node die: it sends and gets nothing any more."""
        del self.nodes[node.name]
        node.is_dead = True
        for other in self.nodes.values():
            other.put(partial(other.changed, node.name, False))


class Node:
    """A node's side; the part of `Nodes` that is about messages."""

    def __init__(self, exchange: Exchange, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.is_frozen = False
        self._exchange = exchange
        self._stream: deque[Callable[[], None]] = deque()
        self._listeners: dict[str, Callable[[str, bytes], None]] = {}
        self._watchers: list[Callable[[str, bool], None]] = []

    @property
    def others(self) -> Collection[str]:
        return [name for name in self._exchange.nodes if name != self.name]

    def send(self, receiver: str | None, topic: str, message: bytes) -> None:
        if self.is_dead:
            return
        exchange = self._exchange
        exchange.sent[topic] = exchange.sent.get(topic, 0) + 1
        for node in list(exchange.nodes.values()):
            if receiver in (None, node.name):
                node.put(partial(node.receive, topic, self.name, message))

    def listen(self, topic: str, receive: Callable[[str, bytes], None] | None) -> None:
        if receive is None:
            self._listeners.pop(topic, None)
        else:
            self._listeners[topic] = receive

    def watch(self, changed: Callable[[str, bool], None]) -> None:
        self._watchers.append(changed)

    async def claim_consumer(self, queue: str, consumer: str) -> str:
        return self.name

    async def release_consumer(self, queue: str, consumer: str) -> None:
        pass

    def follow_queues(self, follower: QueueFollower) -> None:
        pass

    # -- its stream -----------------------------------------------------------------------------------------

    def put(self, step: Callable[[], None]) -> None:
        self._stream.append(step)
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        while self._stream and not (self.is_dead or self.is_frozen):
            self._stream.popleft()()

    def thaw(self) -> None:
        self.is_frozen = False
        self._go_on()

    def receive(self, topic: str, sender: str, message: bytes) -> None:
        listener = self._listeners.get(topic)
        if listener is not None:
            listener(sender, message)

    def changed(self, name: str, is_there: bool) -> None:
        for watcher in self._watchers:
            watcher(name, is_there)


class _Joined:
    """A store that has other nodes."""

    def __init__(self, store: Any, node: Node) -> None:
        self._store = store
        self.nodes = node
        self.answers = store.answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
