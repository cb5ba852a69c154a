"""Queues and consumers, as an HTTP API reaches them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from waypost.checking.arguments import POSITIVE, POSITIVE_OR_ZERO, check
from waypost.checking.headers import check_headers
from waypost.checking.names import Name, as_name
from waypost.outside.api.answers import member, read_list, read_object
from waypost.outside.api.requests import ApiRequest, encoded_arguments, get, post, queue_path
from waypost.outside.api.service import ApiService
from waypost.server.basics.environment import new_id
from waypost.server.queues.consumer import ConsumerInfo
from waypost.server.queues.message import DeadLetter, QueuedMessage, Receipt, Start, to_place
from waypost.server.queues.queue_info import QueueInfo

__all__ = ["ApiConsumer", "ApiQueue"]


class ApiQueue:
    """A queue, as an HTTP API reaches it. Made by `Api.queue`; its methods are those of `waypost.Queue`.

    Each method needs a key with a scope: ``queues:write`` to emit, ``queues:read`` to look, ``queues:manage`` for all
    else. Each may raise what `Api` says.
    """

    __slots__ = ("_name", "_service")

    def __init__(self, service: ApiService, name: str) -> None:
        self._service = service
        self._name = name

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._name

    async def emit(
        self,
        event: str,
        *args: Any,
        id: Name | None = None,
        key: Name | None = None,
        ttl_s: float | None = None,
        delay_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Put a message into the queue.

        Args:
            event: The name of the event that consumers receive.
            args: The event's arguments: values that JSON can carry.
            id: The message's id; the queue accepts an id once within its ``deduplication_s``. ``None`` makes one, so
                that a request which is sent twice is one message.
            key: The ordering key.
            ttl_s: The time to live from when the message is due, in seconds above 0; ``None`` for no limit.
            delay_s: Seconds until the message is due, from 0.
            headers: What receivers get beside the arguments, text to text.

        Returns:
            The receipt.

        Raises:
            QueueFull: The message does not fit into the queue's limits, and the queue refuses what does not fit.
            EncodingFailed: JSON can't carry an argument.
            ConfigurationError: An argument has an impossible value.
            ApiRefused: The service refused the request.
            ApiUnavailable: The service can't be reached, or takes no request now. Nothing was stored.
            StorageUncertain: The message may be in the queue, or not; try again with the same id.
            WrongEventLoop: The API is in use on another event loop.

        Delivery: at least once. The message is on disk when this returns, if the store is durable. If this is
        cancelled, it may be there all the same.
        """
        if ttl_s is not None:
            check("ttl_s", ttl_s, POSITIVE)
        if delay_s is not None:
            check("delay_s", delay_s, POSITIVE_OR_ZERO)
        message_id = new_id() if id is None else as_name("id", id)
        arguments = encoded_arguments(self._service.codec, "/", event, args)
        body: dict[str, Any] = {"event": event, "args": arguments, "id": message_id}
        more = {
            "key": None if key is None else as_name("key", key),
            "ttl_s": ttl_s,
            "delay_s": delay_s,
            "headers": None if headers is None else dict(check_headers(headers)),
        }
        body |= {name: value for name, value in more.items() if value is not None}
        operation = f"put a message into queue {self._name}"
        request = ApiRequest(operation, "POST", self._path("messages"), body, ids=(message_id,))
        return read_object(Receipt, await self._service.ask("emit", request))

    async def info(self) -> QueueInfo:
        """Return the queue's numbers; all are zero if it does not exist."""
        request = get(f"look at queue {self._name}", self._path())
        return read_object(QueueInfo, member(await self._service.ask("info", request), "queue"))

    async def consumers(self) -> list[ConsumerInfo]:
        """Return the numbers of the queue's first 100 consumers, by name."""
        request = get(f"look at queue {self._name}", self._path())
        answer = await self._service.ask("consumers", request)
        return read_list(ConsumerInfo, member(answer, "consumers"))

    async def peek(self, *, after: int = 0, limit: int = 10) -> list[QueuedMessage]:
        """Return messages of the queue without delivering them, by offset.

        Args:
            after: Only messages after this offset.
            limit: The most messages to return, from 1 to 1,000.
        """
        request = get(f"peek into queue {self._name}", self._path("messages"), after=after, limit=limit)
        answer = await self._service.ask("peek", request)
        return read_list(QueuedMessage, member(answer, "messages"))

    async def dead_letters(
        self, *, consumer: Name | None = None, after: int = 0, limit: int = 100
    ) -> list[DeadLetter]:
        """Return dead letters, the oldest first.

        Args:
            consumer: Only those of this consumer; ``None`` for all.
            after: Only those with numbers after this one.
            limit: The most to return, from 1 to 1,000.
        """
        request = get(
            f"look at the dead letters of queue {self._name}",
            self._path("dead-letters"),
            consumer=_optional(consumer),
            after=after,
            limit=limit,
        )
        answer = await self._service.ask("dead_letters", request)
        return read_list(DeadLetter, member(answer, "dead_letters"))

    async def redrive(
        self,
        *,
        consumer: Name | None = None,
        numbers: Collection[int] | None = None,
        rate_per_s: float | None = None,
    ) -> int:
        """Turn dead letters into messages again, and return how many there were.

        Args:
            consumer: Only those of this consumer; ``None`` for all.
            numbers: Only those with these numbers; ``None`` for all.
            rate_per_s: How many messages become due per second; ``None`` for all at once.

        A broken connection raises `StorageUncertain`: a second request might redrive what has died again meanwhile.
        """
        if rate_per_s is not None:
            check("rate_per_s", rate_per_s, POSITIVE)
        request = post(
            f"redrive dead letters of queue {self._name}",
            self._path("redrive"),
            is_repeatable=False,
            consumer=_optional(consumer),
            numbers=None if numbers is None else [*numbers],
            rate_per_s=rate_per_s,
        )
        return _count(await self._service.ask("redrive", request), "redriven")

    async def discard_dead_letters(self, *, consumer: Name | None = None) -> int:
        """Delete dead letters for good, and return how many there were.

        Args:
            consumer: Only those of this consumer; ``None`` for all.
        """
        request = get(
            f"discard dead letters of queue {self._name}", self._path("dead-letters"), consumer=_optional(consumer)
        )
        answer = await self._service.ask("discard_dead_letters", request._replace(method="DELETE"))
        return _count(answer, "discarded")

    async def purge(self, *, upto: int | None = None) -> int:
        """Remove messages, and return how many there were.

        Args:
            upto: The last offset to remove; ``None`` for all messages, those that are not due yet included.
        """
        request = post(f"purge queue {self._name}", self._path("purge"), upto=upto)
        return _count(await self._service.ask("purge", request), "purged")

    async def pause(self, *, until: datetime | None = None) -> None:
        """Stop the deliveries to all consumers; messages are taken all the same.

        Args:
            until: The time at which the pause ends, with a time zone; ``None`` for never.
        """
        await self._service.ask("pause", _pause(self._name, None, until))

    async def resume(self) -> None:
        """End the pause of all consumers."""
        await self._service.ask("resume", _resume(self._name, None))

    def get_consumer(self, name: Name = "default") -> ApiConsumer:
        """Return a handle on a consumer of the queue.

        Args:
            name: The consumer's name.
        """
        return ApiConsumer(self._service, self._name, as_name("consumer", name))

    def _path(self, *more: str) -> str:
        return queue_path(self._name, *more)


class ApiConsumer:
    """A consumer of a queue, as an HTTP API reaches it. Made by `ApiQueue.get_consumer`.

    Each method needs a key with the scope ``queues:manage``, and may raise what `Api` says. A consumer that does not
    exist is refused.
    """

    __slots__ = ("_name", "_queue", "_service")

    def __init__(self, service: ApiService, queue: str, name: str) -> None:
        self._service = service
        self._queue = queue
        self._name = name

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._name

    async def seek(self, to: Start) -> None:
        """Move the consumer to another place in its queue.

        Args:
            to: ``"oldest"``, ``"new"``, the offset of the last message that it shall not get, or a time.
        """
        to_place(to, argument="to")
        request = post(
            f"move consumer {self._name} of queue {self._queue}",
            queue_path(self._queue, "seek"),
            consumer=self._name,
            to=to,
        )
        await self._service.ask("seek", request)

    async def pause(self, *, until: datetime | None = None) -> None:
        """Stop the deliveries to the consumer.

        Args:
            until: The time at which the pause ends, with a time zone; ``None`` for never.
        """
        await self._service.ask("pause", _pause(self._queue, self._name, until))

    async def resume(self) -> None:
        """End the consumer's pause."""
        await self._service.ask("resume", _resume(self._queue, self._name))


def _pause(queue: str, consumer: str | None, until: datetime | None) -> ApiRequest:
    return post(f"pause queue {queue}", queue_path(queue, "pause"), consumer=consumer, until=until)


def _resume(queue: str, consumer: str | None) -> ApiRequest:
    return post(f"resume queue {queue}", queue_path(queue, "resume"), consumer=consumer)


def _optional(name: Name | None) -> str | None:
    return None if name is None else as_name("consumer", name)


def _count(answer: Mapping[str, Any], name: str) -> int:
    return int(member(answer, name))
