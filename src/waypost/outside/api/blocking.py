"""The API for programs without asyncio: the asyncio one, on a loop in its own thread."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

from waypost.checking.names import Name, Names
from waypost.outside.api import api as asynchronous
from waypost.outside.api import queues as asynchronous_queues
from waypost.outside.api.api import NOTHING
from waypost.outside.api.states import ApiSocketsPage, ApiState
from waypost.outside.calls import Calls
from waypost.protocol.rich_json import JsonDefault
from waypost.server.queues.consumer import ConsumerInfo
from waypost.server.queues.message import DeadLetter, QueuedMessage, Receipt, Start
from waypost.server.queues.queue_info import QueueInfo

__all__ = ["Api", "ApiConsumer", "ApiQueue", "ApiTarget"]


class ApiTarget:
    """The clients that an API addresses; see `waypost.ApiTarget`. It never changes."""

    __slots__ = ("_calls", "_inner")

    def __init__(self, inner: asynchronous.ApiTarget, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    def to(self, *rooms: Names) -> ApiTarget:
        """Address the members of rooms, in addition to the rooms named before; see `waypost.Api.to`."""
        return ApiTarget(self._inner.to(*rooms), self._calls)

    in_ = to

    def except_(self, *rooms: Names) -> ApiTarget:
        """Leave out the members of rooms; see `waypost.Api.except_`."""
        return ApiTarget(self._inner.except_(*rooms), self._calls)

    @property
    def volatile(self) -> ApiTarget:
        """The same clients; an event is dropped for each of them that can't take it at once."""
        return ApiTarget(self._inner.volatile, self._calls)

    def emit(self, event: str, *args: Any, id: Name | None = None) -> None:
        """Emit an event to the addressed clients; see `waypost.Api.emit`."""
        self._calls.run(self._inner.emit, event, *args, id=id)

    def sockets_join(self, *rooms: Names) -> None:
        """Let the addressed clients join rooms; see `waypost.Api.sockets_join`."""
        self._calls.run(self._inner.sockets_join, *rooms)

    def sockets_leave(self, *rooms: Names) -> None:
        """Let the addressed clients leave rooms; see `waypost.Api.sockets_leave`."""
        self._calls.run(self._inner.sockets_leave, *rooms)

    def disconnect_sockets(self, *, close: bool = False) -> None:
        """Disconnect the addressed clients; see `waypost.Api.disconnect_sockets`."""
        self._calls.run(self._inner.disconnect_sockets, close=close)


class ApiQueue:
    """A queue, as an HTTP API reaches it; see `waypost.ApiQueue`."""

    __slots__ = ("_calls", "_inner")

    def __init__(self, inner: asynchronous_queues.ApiQueue, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._inner.name

    def emit(
        self,
        event: str,
        *args: Any,
        id: Name | None = None,
        key: Name | None = None,
        ttl_s: float | None = None,
        delay_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Put a message into the queue; see `waypost.ApiQueue.emit`."""
        return self._calls.run(
            self._inner.emit, event, *args, id=id, key=key, ttl_s=ttl_s, delay_s=delay_s, headers=headers
        )

    def info(self) -> QueueInfo:
        """Return the queue's numbers; see `waypost.ApiQueue.info`."""
        return self._calls.run(self._inner.info)

    def consumers(self) -> list[ConsumerInfo]:
        """Return the numbers of the queue's consumers; see `waypost.ApiQueue.consumers`."""
        return self._calls.run(self._inner.consumers)

    def peek(self, *, after: int = 0, limit: int = 10) -> list[QueuedMessage]:
        """Return messages without delivering them; see `waypost.ApiQueue.peek`."""
        return self._calls.run(self._inner.peek, after=after, limit=limit)

    def dead_letters(self, *, consumer: Name | None = None, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """Return dead letters; see `waypost.ApiQueue.dead_letters`."""
        return self._calls.run(self._inner.dead_letters, consumer=consumer, after=after, limit=limit)

    def redrive(
        self,
        *,
        consumer: Name | None = None,
        numbers: Collection[int] | None = None,
        rate_per_s: float | None = None,
    ) -> int:
        """Turn dead letters into messages again; see `waypost.ApiQueue.redrive`."""
        return self._calls.run(self._inner.redrive, consumer=consumer, numbers=numbers, rate_per_s=rate_per_s)

    def discard_dead_letters(self, *, consumer: Name | None = None) -> int:
        """Delete dead letters for good; see `waypost.ApiQueue.discard_dead_letters`."""
        return self._calls.run(self._inner.discard_dead_letters, consumer=consumer)

    def purge(self, *, upto: int | None = None) -> int:
        """Remove messages; see `waypost.ApiQueue.purge`."""
        return self._calls.run(self._inner.purge, upto=upto)

    def pause(self, *, until: datetime | None = None) -> None:
        """Stop the deliveries to all consumers; see `waypost.ApiQueue.pause`."""
        self._calls.run(self._inner.pause, until=until)

    def resume(self) -> None:
        """End the pause of all consumers; see `waypost.ApiQueue.resume`."""
        self._calls.run(self._inner.resume)

    def get_consumer(self, name: Name = "default") -> ApiConsumer:
        """Return a handle on a consumer of the queue; see `waypost.ApiQueue.get_consumer`."""
        return ApiConsumer(self._inner.get_consumer(name), self._calls)


class ApiConsumer:
    """A consumer of a queue, as an HTTP API reaches it; see `waypost.ApiConsumer`."""

    __slots__ = ("_calls", "_inner")

    def __init__(self, inner: asynchronous_queues.ApiConsumer, calls: Calls) -> None:
        self._inner = inner
        self._calls = calls

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._inner.name

    def seek(self, to: Start) -> None:
        """Move the consumer to another place in its queue; see `waypost.ApiConsumer.seek`."""
        self._calls.run(self._inner.seek, to)

    def pause(self, *, until: datetime | None = None) -> None:
        """Stop the deliveries to the consumer; see `waypost.ApiConsumer.pause`."""
        self._calls.run(self._inner.pause, until=until)

    def resume(self) -> None:
        """End the consumer's pause; see `waypost.ApiConsumer.resume`."""
        self._calls.run(self._inner.resume)


class Api:
    """Emits to the clients of a service by its HTTP API, from a program without asyncio; otherwise as `waypost.Api`.

    ::

        api = waypost.sync.Api("https://shop.example.org/api", key)
        api.emit("paid", 7, room="order 7", id="order 7 paid")

    A method returns when its work is done, and raises the same errors. Any thread may use the API, several at a time,
    and so may each forked process: one for the whole program, made when it is imported, will do.

    Args:
        url: The API's URL, with the path of its mount.
        key: A key of the API, as ``waypost api-key new`` prints it.
        timeout_s: Seconds for a call, with all its tries.
        retries: How often a request is sent again.
        ssl: The TLS context for ``https``; ``None`` for the system's defaults, which verify the service.
        json_default: As the server's option of that name, for arguments of other types.

    Raises:
        ConfigurationError: An argument has an impossible value.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_s: float = 10.0,
        retries: int = 3,
        ssl: SSLContext | None = None,
        json_default: JsonDefault | None = None,
    ) -> None:
        self._inner = asynchronous.Api(
            url, key, timeout_s=timeout_s, retries=retries, ssl=ssl, json_default=json_default
        )
        self._calls = Calls("waypost-api", self._inner.close)

    def __enter__(self) -> Self:
        """Return the API; it connects at the first use."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the API."""
        self.close()

    def of(self, namespace: str) -> ApiTarget:
        """Address all clients of a namespace; see `waypost.Api.of`."""
        return ApiTarget(self._inner.of(namespace), self._calls)

    def to(self, *rooms: Names) -> ApiTarget:
        """Address the members of rooms; see `waypost.Api.to`."""
        return ApiTarget(self._inner.to(*rooms), self._calls)

    in_ = to

    def except_(self, *rooms: Names) -> ApiTarget:
        """Address all clients but the members of rooms; see `waypost.Api.except_`."""
        return ApiTarget(self._inner.except_(*rooms), self._calls)

    @property
    def volatile(self) -> ApiTarget:
        """All clients; an event is dropped for each of them that can't take it at once."""
        return ApiTarget(self._inner.volatile, self._calls)

    def emit(
        self,
        event: str,
        *args: Any,
        id: Name | None = None,
        to: Names | None = None,
        room: Names | None = None,
        except_: Names = (),
        skip_sid: Names | None = None,
        namespace: str | None = None,
        data: Any = NOTHING,
    ) -> None:
        """Emit an event to all clients of a namespace, or to the members of rooms; see `waypost.Api.emit`."""
        self._calls.run(
            self._inner.emit,
            event,
            *args,
            id=id,
            to=to,
            room=room,
            except_=except_,
            skip_sid=skip_sid,
            namespace=namespace,
            data=data,
        )

    def sockets_join(self, *rooms: Names) -> None:
        """Let all clients of the main namespace join rooms; see `waypost.Api.sockets_join`."""
        self._calls.run(self._inner.sockets_join, *rooms)

    def sockets_leave(self, *rooms: Names) -> None:
        """Let all clients of the main namespace leave rooms; see `waypost.Api.sockets_leave`."""
        self._calls.run(self._inner.sockets_leave, *rooms)

    def disconnect_sockets(self, *, close: bool = False) -> None:
        """Disconnect all clients of the main namespace; see `waypost.Api.disconnect_sockets`."""
        self._calls.run(self._inner.disconnect_sockets, close=close)

    def queue(self, name: Name) -> ApiQueue:
        """Return a handle on a queue, which need not exist; see `waypost.Api.queue`."""
        return ApiQueue(self._inner.queue(name), self._calls)

    def queue_infos(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[QueueInfo]:
        """Return the numbers of queues, by name; see `waypost.Api.queue_infos`."""
        return self._calls.run(self._inner.queue_infos, prefix=prefix, after=after, limit=limit)

    def sockets(
        self, *, room: Name | None = None, namespace: str = "/", after: str = "", limit: int = 100
    ) -> ApiSocketsPage:
        """Return the sockets that are connected, by id; see `waypost.Api.sockets`."""
        return self._calls.run(self._inner.sockets, room=room, namespace=namespace, after=after, limit=limit)

    def state(self) -> ApiState:
        """Return the service in numbers; see `waypost.Api.state`."""
        return self._calls.run(self._inner.state)

    def close(self) -> None:
        """Close the connections. A second call does nothing; a later call of a method connects again."""
        self._calls.stop()
