"""The emitter for programs without asyncio: the asyncio emitter, on a loop in its own thread."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from types import TracebackType
from typing import Any, Self

from waypost.checking.names import Name, Names
from waypost.outside import emitter as asynchronous
from waypost.outside.calls import Calls
from waypost.protocol.rich_json import JsonDefault
from waypost.server.queues.options import QueueOptions
from waypost.storage.outside import EMIT_WINDOW_S

__all__ = ["Emitter", "EmitterQueue", "EmitterTarget"]


class EmitterTarget:
    """The clients that an emitter addresses; see `waypost.outside.emitter.EmitterTarget`. It never changes."""

    __slots__ = ("_calls", "_inner")

    def __init__(self, inner: asynchronous.EmitterTarget | asynchronous.Emitter, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def to(self, *rooms: Names) -> EmitterTarget:
        """Address the members of rooms, in addition to the rooms named before; see `waypost.Emitter.to`."""
        return EmitterTarget(self._inner.to(*rooms), self._calls)

    in_ = to

    def except_(self, *rooms: Names) -> EmitterTarget:
        """Leave out the members of rooms; see `waypost.Emitter.except_`."""
        return EmitterTarget(self._inner.except_(*rooms), self._calls)

    def emit(self, event: str, *args: Any, id: Name | None = None) -> None:
        """Emit an event to the addressed clients; see `waypost.Emitter.emit`."""
        self._calls.run(self._inner.emit, event, *args, id=id)

    def sockets_join(self, *rooms: Names) -> None:
        """Let the addressed clients join rooms; see `waypost.Emitter.sockets_join`."""
        self._calls.run(self._inner.sockets_join, *rooms)

    def sockets_leave(self, *rooms: Names) -> None:
        """Let the addressed clients leave rooms; see `waypost.Emitter.sockets_leave`."""
        self._calls.run(self._inner.sockets_leave, *rooms)

    def disconnect_sockets(self, *, close: bool = False) -> None:
        """Disconnect the addressed clients; see `waypost.Emitter.disconnect_sockets`."""
        self._calls.run(self._inner.disconnect_sockets, close=close)


class EmitterQueue:
    """A queue, as an emitter reaches it; see `waypost.outside.emitter.EmitterQueue`."""

    __slots__ = ("_calls", "_inner")

    def __init__(self, inner: asynchronous.EmitterQueue, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def emit(
        self,
        event: str,
        *args: Any,
        id: Name | None = None,
        key: Name | None = None,
        ttl_s: float | None = None,
        delay_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Put a message into the queue, and return its id; see `waypost.outside.emitter.EmitterQueue.emit`."""
        return self._calls.run(
            self._inner.emit, event, *args, id=id, key=key, ttl_s=ttl_s, delay_s=delay_s, headers=headers
        )


class Emitter:
    """Emits to the clients of a service from a program without asyncio; otherwise as `waypost.Emitter`.

    ::

        emitter = waypost.sync.Emitter("shop.db")
        emitter.to("order 7").emit("paid", 7, id="order 7 paid")

    A method returns when its work is done, and raises the same errors. Any thread may use the emitter, several at a
    time, and so may each forked process: one for the whole program, made when it is imported, will do.

    Args:
        store: As for `waypost.Emitter`.
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
        self._inner = asynchronous.Emitter(
            store, queues=queues, deduplication_s=deduplication_s, json_default=json_default
        )
        self._calls = Calls("waypost-emitter", self._inner.close)
        self._everybody = EmitterTarget(self._inner, self._calls)

    def __enter__(self) -> Self:
        """Return the emitter; it connects at the first use."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the emitter."""
        self.close()

    def of(self, namespace: str) -> EmitterTarget:
        """Address all clients of a namespace; see `waypost.Emitter.of`."""
        return EmitterTarget(self._inner.of(namespace), self._calls)

    def to(self, *rooms: Names) -> EmitterTarget:
        """Address the members of rooms; see `waypost.Emitter.to`."""
        return self._everybody.to(*rooms)

    in_ = to

    def except_(self, *rooms: Names) -> EmitterTarget:
        """Address all clients but the members of rooms; see `waypost.Emitter.except_`."""
        return self._everybody.except_(*rooms)

    def emit(self, event: str, *args: Any, id: Name | None = None) -> None:
        """Emit an event to all clients of the main namespace; see `waypost.Emitter.emit`."""
        self._everybody.emit(event, *args, id=id)

    def sockets_join(self, *rooms: Names) -> None:
        """Let all clients of the main namespace join rooms; see `waypost.Emitter.sockets_join`."""
        self._everybody.sockets_join(*rooms)

    def sockets_leave(self, *rooms: Names) -> None:
        """Let all clients of the main namespace leave rooms; see `waypost.Emitter.sockets_leave`."""
        self._everybody.sockets_leave(*rooms)

    def disconnect_sockets(self, *, close: bool = False) -> None:
        """Disconnect all clients of the main namespace; see `waypost.Emitter.disconnect_sockets`."""
        self._everybody.disconnect_sockets(close=close)

    def queue(self, name: Name) -> EmitterQueue:
        """Return a handle on a queue, which need not exist."""
        return EmitterQueue(self._inner.queue(name), self._calls)

    def close(self) -> None:
        """Let go of the store. A second call does nothing; a later emit connects again."""
        self._calls.stop()
