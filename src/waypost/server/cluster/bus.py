"""Messages between the servers of a cluster: typed, one topic for each subject, and one order for all servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar

import msgspec

from waypost.errors import EncodingFailed, StorageError
from waypost.logs import fields, get_logger
from waypost.server.basics.targets import Target
from waypost.storage.following import EVERYBODY, Nodes

__all__ = ["Bus", "Disconnect", "Emit", "Join", "Leave", "Told", "Topic"]

logger = get_logger("waypost.cluster")

M = TypeVar("M")


class Emit(msgspec.Struct, frozen=True, tag="emit", array_like=True):
    """An event that no journal carries.

    Attributes:
        record: The event, by `EncodedEvent.to_record`.
        volatile: Whether only clients that can take it at once get it.
        compress: Whether the transport may compress the packet.
    """

    record: bytes
    volatile: bool
    compress: bool


class Join(msgspec.Struct, frozen=True, tag="join", array_like=True):
    """The sockets join rooms.

    Attributes:
        rooms: The rooms.
    """

    rooms: tuple[str, ...]


class Leave(msgspec.Struct, frozen=True, tag="leave", array_like=True):
    """The sockets leave rooms.

    Attributes:
        rooms: The rooms.
    """

    rooms: tuple[str, ...]


class Disconnect(msgspec.Struct, frozen=True, tag="disconnect", array_like=True):
    """The sockets are disconnected.

    Attributes:
        close: Whether to close their whole connections.
    """

    close: bool


class Told(msgspec.Struct, frozen=True, array_like=True):
    """An action on the sockets of a namespace on all servers, which no journal carries.

    Attributes:
        namespace: The namespace's name.
        target: The sockets.
        action: What is done.
    """

    namespace: str
    target: Target
    action: Emit | Join | Leave | Disconnect


class Topic(Generic[M]):
    """The messages on one subject.

    Args:
        nodes: The servers.
        name: The subject.
        kind: The type of the messages.
        receive: Called with the sender's name and each message of another server. Must not raise and must not block.
    """

    __slots__ = ("_decoder", "_encoder", "_name", "_nodes", "_receive", "_unreadable")

    def __init__(self, nodes: Nodes, name: str, kind: Any, receive: Callable[[str, M], None]) -> None:
        self._nodes = nodes
        self._name = name
        self._receive = receive
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._unreadable: set[str] = set()
        nodes.listen(name, self._received)

    def send(self, receiver: str | None, message: M) -> int:
        """Send a message; see `Nodes.send`. This server does not get its own messages.

        While nothing can be sent, because the cluster is lost, the message is dropped.

        Args:
            receiver: A server's name; `EVERYBODY` for all others.
            message: The message.

        Returns:
            The message's size in bytes.

        Raises:
            EncodingFailed: The message contains a value that can't be sent.
        """
        try:
            encoded = self._encoder.encode(message)
        except (TypeError, ValueError, OverflowError, RecursionError) as problem:
            raise EncodingFailed(f"a message to other servers on {self._name!r}", str(problem)) from problem
        try:
            self._nodes.send(receiver, self._name, encoded)
        except StorageError as problem:
            logger.debug("other servers are not told on %r: %s", self._name, problem)
        return len(encoded)

    def _received(self, sender: str, encoded: bytes) -> None:
        if sender == self._nodes.name:
            return
        try:
            message = self._decoder.decode(encoded)
        except msgspec.MsgspecError as problem:
            # Servers of two versions meet while one replaces the other.
            if sender not in self._unreadable:
                self._unreadable.add(sender)
                logger.warning(
                    "messages of server %s on %r can't be read: %s",
                    sender,
                    self._name,
                    problem,
                    extra=fields(node=sender),
                )
            return
        self._receive(sender, message)


class Bus:
    """The actions that this server tells all servers, itself too, in one order. Exists while there may be others.

    Args:
        nodes: The servers.
        hear: Called with what other servers tell, in the order for all. Must not raise and must not block.

    Attributes:
        nodes: The servers.
        lost_histories: The namespaces of which a server knows that the store has lost history.
    """

    def __init__(self, nodes: Nodes, hear: Callable[[Told], None]) -> None:
        self.nodes = nodes
        self.lost_histories: set[str] = set()
        self._histories: Topic[list[str]] = Topic(nodes, "histories", list[str], self._histories_lost)
        self._hear = hear
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Told)
        self._sent = 0
        self._under_way: dict[int, tuple[Callable[[], None], asyncio.Future[None]]] = {}
        nodes.listen("told", self._received)

    @property
    def others(self) -> Collection[str]:
        """The names of the other servers that are alive."""
        return self.nodes.others

    async def tell(self, told: Told, apply: Callable[[], None], *, may_drop: bool = False) -> None:
        """Tell all servers, and wait until it was applied here.

        Args:
            told: What other servers apply.
            apply: Applies it here, in its place in the order for all. Must not raise.
            may_drop: Whether another server does without it if it is far behind; see `Nodes.send`.

        Raises:
            StorageError: The cluster is lost, or this server stops. Other servers may have applied it.

        Delivery: at most once, after all that this server has written and told before. If this is cancelled, it is
        applied all the same.
        """
        self._sent += 1
        number = self._sent
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way[number] = apply, done
        try:
            message = number.to_bytes(8, "big") + self._encoder.encode(told)
            self.nodes.send(EVERYBODY, "told", message, may_drop=may_drop)
        except BaseException:
            del self._under_way[number]
            raise
        await done

    def _received(self, sender: str, message: bytes) -> None:
        if sender != self.nodes.name:
            try:
                told = self._decoder.decode(memoryview(message)[8:])
            except msgspec.MsgspecError as problem:
                logger.warning("what server %s told can't be read: %s", sender, problem, extra=fields(node=sender))
                return
            self._hear(told)
            return
        under_way = self._under_way.pop(int.from_bytes(message[:8], "big"), None)
        if under_way is None:
            # It was given up: this server stops, and the stream still brings what was sent before.
            return
        apply, done = under_way
        apply()
        if not done.done():
            done.set_result(None)

    def tell_history_lost(self, namespace: str) -> None:
        """Tell all others that the store has lost history of a namespace."""
        self.lost_histories.add(namespace)
        self._histories.send(EVERYBODY, [namespace])

    def greet(self, server: str) -> None:
        """Tell a server that has come what all others know."""
        if self.lost_histories:
            self._histories.send(server, sorted(self.lost_histories))

    def _histories_lost(self, _: str, namespaces: list[str]) -> None:
        self.lost_histories.update(namespaces)

    def close(self, problem: StorageError) -> None:
        """Give up what is under way: nothing comes any more."""
        under_way, self._under_way = self._under_way, {}
        for _, done in under_way.values():
            if not done.done():
                done.set_exception(problem)
