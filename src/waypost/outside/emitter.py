"""Emits, rooms, queues and disconnects from any process without a server: a view, a worker, a cron script."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from waypost.checking.arguments import NAMESPACE, POSITIVE_OR_ZERO, check
from waypost.checking.names import Name, Names, as_name, as_names
from waypost.checking.rules import rule_of
from waypost.outside.outbox import Outbox
from waypost.outside.outboxes import make_outbox
from waypost.outside.reach import Reach
from waypost.protocol.codec import Codec, check_json_default, codec_for
from waypost.protocol.rich_json import JsonDefault
from waypost.server.basics.environment import new_id
from waypost.server.basics.targets import EVERYONE, Target
from waypost.server.emitting.feed import CLOSES
from waypost.server.queues.message import NewMessage, to_row
from waypost.server.queues.options import QueueOptions
from waypost.storage.outside import EMIT_WINDOW_S, OutsideWrite

__all__ = ["Emitter", "EmitterQueue", "EmitterTarget"]

_OPTIONS = rule_of(QueueOptions | None)


class _Reach:
    """How an emitter reaches its service, and how it encodes what it sends there."""

    def __init__(
        self, store: str | PathLike[str], queues: QueueOptions | None, codec: Codec, deduplication_s: float
    ) -> None:
        self.codec = codec
        self.deduplication_s = deduplication_s
        # Checks the text that names the store; opens nothing yet.
        self._outboxes: Reach[Outbox] = Reach(lambda: make_outbox(store, queues), "emitter")

    def outbox(self, action: str) -> Outbox:
        """Return the outbox for the running loop; see `Reach.way`."""
        return self._outboxes.way(action)

    async def close(self) -> None:
        """Close the outbox, if this process and loop have used it."""
        await self._outboxes.close()


class _Addressing(Protocol):
    """The methods that an emitter and its targets share: whom they reach, and with what."""

    __slots__ = ()

    _reach: _Reach
    _namespace: str
    _target: Target

    def to(self, *rooms: Names) -> EmitterTarget:
        """Address the members of rooms, in addition to the rooms named before.

        A client in several of the rooms gets an event once.

        Args:
            rooms: Names of rooms, or lists of names. A name is text; an int stands for its decimal text. A socket's
                id is a room too. Without rooms, no client is addressed.

        Raises:
            ConfigurationError: An argument is no name of a room.
        """
        target = Target((self._target.rooms or frozenset()).union(as_names("room", rooms)), self._target.except_)
        return EmitterTarget(self._reach, self._namespace, target)

    def in_(self, *rooms: Names) -> EmitterTarget:
        """Do the same as `to`; Socket.IO has this name for it too.

        Args:
            rooms: As for `to`.

        Raises:
            ConfigurationError: An argument is no name of a room.
        """
        return self.to(*rooms)

    def except_(self, *rooms: Names) -> EmitterTarget:
        """Leave out the members of rooms. Without `to` before it, all other clients are addressed.

        Args:
            rooms: As for `to`.

        Raises:
            ConfigurationError: An argument is no name of a room.
        """
        target = Target(self._target.rooms, self._target.except_.union(as_names("room", rooms)))
        return EmitterTarget(self._reach, self._namespace, target)

    async def emit(self, event: str, *args: Any, id: Name | None = None) -> None:
        """Emit an event to the addressed clients.

        Args:
            event: The event's name; none of Socket.IO's reserved names.
            args: The event's arguments: values that JSON can carry, and ``bytes`` anywhere in them.
            id: An id of what the event is about. The namespace takes an id once within the emitter's
                ``deduplication_s``: call again with the same id when you do not know whether the first call
                succeeded, and the clients get one event.

        Raises:
            EncodingFailed: An argument can't be encoded, or the name is reserved.
            StorageError: The store did not take the event. No client gets it.
            StorageUncertain: The store may have taken the event, or not.
            WrongEventLoop: The emitter is in use on another event loop.

        Delivery: as for an emit of the server's, in order and recoverable, some 50 ms after this returns: once to
        each client that is connected then or comes back in time. Without a running server, delivery begins when one
        starts. Emits of one emitter keep their order; the order against emits of the servers is the one in which the
        servers take them. If this is cancelled, the event may be delivered all the same.
        """
        write_id = "" if id is None else as_name("id", id)
        encoded = self._reach.codec.encode_event(self._namespace, event, args)
        outbox = self._reach.outbox("emit")
        window_s = self._reach.deduplication_s if write_id else 0.0
        await outbox.emit(self._namespace, self._target, encoded, write_id=write_id, window_s=window_s)

    async def sockets_join(self, *rooms: Names) -> None:
        """Let the addressed clients join rooms, clients that are away and may come back included.

        Args:
            rooms: As for `to`.

        Raises:
            ConfigurationError: An argument is no name of a room.
            StorageError: The store did not take the change. No client joined.

        Emits of this emitter that come later find the clients in the rooms. If cancelled, they may still join.
        """
        await self._change("sockets_join", "join", as_names("room", rooms))

    async def sockets_leave(self, *rooms: Names) -> None:
        """Let the addressed clients leave rooms, clients that are away and may come back included.

        Args:
            rooms: As for `to`. A client does not leave the room of its own id.

        Raises:
            ConfigurationError: An argument is no name of a room.
            StorageError: The store did not take the change. No client left.

        Emits of this emitter that come later do not find the clients in the rooms. If cancelled, they may still
        leave.
        """
        await self._change("sockets_leave", "leave", as_names("room", rooms))

    async def disconnect_sockets(self, *, close: bool = False) -> None:
        """Disconnect the addressed clients from the namespace, after all earlier emits of this emitter.

        They do not reconnect by themselves. The sessions of those that are away end: they start anew when they come
        back. If cancelled, the clients may still be disconnected.

        Args:
            close: Whether to close their whole connections too, with all their namespaces.

        Raises:
            StorageError: The store did not take the change. No client was disconnected.
        """
        await self._change("disconnect_sockets", "end", (), CLOSES if close else b"")

    async def _change(
        self, action: str, kind: Literal["join", "leave", "end"], moved: Collection[str], note: bytes = b""
    ) -> None:
        rooms, except_ = self._target
        named = None if rooms is None else tuple(sorted(rooms))
        write = OutsideWrite(kind, self._namespace, named, tuple(sorted(except_)), tuple(moved), note)
        await self._reach.outbox(action).change(write)


class EmitterTarget(_Addressing):
    """The clients that an emitter addresses. It never changes: keep and share it. Made by `Emitter`."""

    __slots__ = ("_namespace", "_reach", "_target")

    def __init__(self, reach: _Reach, namespace: str, target: Target) -> None:
        self._reach = reach
        self._namespace = namespace
        self._target = target


class Emitter(_Addressing):
    """Emits to the clients of a service from a process without a server, through the store that its servers use.

    ::

        async with waypost.Emitter("shop.db") as emitter:
            await emitter.to("order 7").emit("paid", 7, id="order 7 paid")
            await emitter.queue("mails").emit("receipt", "ann@example.org")

    Its methods are those of `waypost.Server`, for the namespace ``/``; `of` is for others. `waypost.sync.Emitter` is
    the same for programs without asyncio. It connects at the first use, and again after a loss; an emitter that was
    made before a fork works in each process.

    Args:
        store: The server's option ``store``: a PostgreSQL URL, or an SQLite file that a server has made; or ``unix:``
            and the socket of ``waypost serve --workers N --emitter-socket PATH``.
        queues: The server's option ``queues``, if the server sets it. Options of a single queue are in the store.
        deduplication_s: Seconds for which the id of an emit is remembered.
        json_default: As the server's option of that name, for arguments of other types.

    Raises:
        ConfigurationError: No other process can use that store, or an argument has an impossible value.
    """

    def __init__(
        self,
        store: str | PathLike[str],
        *,
        queues: QueueOptions | None = None,
        deduplication_s: float = EMIT_WINDOW_S,
        json_default: JsonDefault | None = None,
    ) -> None:
        check("queues", queues, _OPTIONS)
        check("deduplication_s", deduplication_s, POSITIVE_OR_ZERO)
        check_json_default(json_default, "json")
        codec = codec_for("json", json_default=json_default)
        self._reach = _Reach(store, queues, codec, deduplication_s)
        self._namespace = "/"
        self._target = EVERYONE

    async def __aenter__(self) -> Self:
        """Return the emitter; it connects at the first use."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the emitter."""
        await self.close()

    def of(self, namespace: str) -> EmitterTarget:
        """Address all clients of a namespace.

        Args:
            namespace: The namespace's name, with its leading slash.

        Raises:
            ConfigurationError: It is no name of a namespace.
        """
        check("namespace", namespace, NAMESPACE)
        return EmitterTarget(self._reach, namespace, EVERYONE)

    def queue(self, name: Name) -> EmitterQueue:
        """Return a handle on a queue, which need not exist.

        Args:
            name: The queue's name.

        Raises:
            ConfigurationError: It is no name that a queue can have.
        """
        return EmitterQueue(self._reach, as_name("queue", name))

    async def close(self) -> None:
        """Let go of the store. A second call does nothing; a later emit connects again."""
        await self._reach.close()


class EmitterQueue:
    """A queue, as an emitter reaches it. Made by `Emitter.queue`."""

    __slots__ = ("_name", "_reach")

    def __init__(self, reach: _Reach, name: str) -> None:
        self._reach = reach
        self._name = name

    async def emit(
        self,
        event: str,
        *args: Any,
        id: Name | None = None,
        key: Name | None = None,
        ttl_s: float | None = None,
        delay_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Put a message into the queue.

        Args:
            event: The name of the event that consumers receive.
            args: The event's arguments.
            id: The message's id; the queue accepts an id once within its ``deduplication_s``, and drops a second one
                without a notice. ``None`` makes one.
            key: The ordering key.
            ttl_s: The time to live from when the message is due, in seconds above 0; ``None`` for no limit.
            delay_s: Seconds until the message is due, from 0.
            headers: What receivers get beside the arguments, text to text.

        Returns:
            The message's id.

        Raises:
            QueueFull: The message does not fit into the queue's limits, and the queue refuses what does not fit.
            EncodingFailed: An argument can't be encoded.
            ConfigurationError: An argument has an impossible value.
            StorageError: The store did not take the message.
            StorageUncertain: The store may have taken the message, or not; try again with the same id.
            WrongEventLoop: The emitter is in use on another event loop.

        Delivery: at least once. The message is in the queue some 50 ms after this returns, or when a server starts.
        If this is cancelled, it may be there all the same.
        """
        message = NewMessage(event, *args, id=id, key=key, ttl_s=ttl_s, delay_s=delay_s, headers=headers)
        stored = to_row(message, self._reach.codec, new_id)
        await self._reach.outbox("emit").publish(self._name, stored, has_own_id=id is not None)
        return stored.id
