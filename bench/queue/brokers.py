"""The contenders through their Python clients, all with the same few methods.

Each is used as its documentation says: RabbitMQ with publisher confirms and an ack per message, Redis with a consumer
group, NATS with a pull consumer. The imports are in the methods, as each package may be missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import waypost
from bench.queue.documents import EVENT, THEIR_PREFETCH, document, encoded

__all__ = ["Broker", "make"]

QUEUE = "bench"


class Broker(Protocol):
    """A contender's client."""

    async def open(self, in_flight: int) -> None:
        """Connect, and make the queue; ``in_flight`` is how many publishes will wait at a time."""
        ...

    async def publish(self, number: int) -> None:
        """Publish a document; returns when it is confirmed."""
        ...

    async def prepare(self, consumers: int) -> None:
        """Set up so many consumers, which take nothing yet."""
        ...

    async def consume(self, taken: Callable[[], None]) -> None:
        """Begin to take messages; acknowledge each and call ``taken``."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class Waypost:
    """Waypost's server in this process, without a transport."""

    def __init__(self, address: str) -> None:
        self._is_file = "://" not in address
        self.io = waypost.Server(store=str(Path(address) / f"{QUEUE}.db") if self._is_file else address)
        self._queue = self.io.queue(QUEUE)

    async def open(self, in_flight: int) -> None:
        """Open the store, and make sure that it flushes with each commit."""
        await self.io.start()
        await self._queue.emit(EVENT, document(0))
        if not self._is_file:
            # It refuses a server that does not flush, and asks for it in each write.
            return
        store: Any = self.io._hub.services.store  # noqa: SLF001 - the pragma belongs to the writer's own connection
        [(level,)] = await store._opened.writer.submit(  # noqa: SLF001
            lambda tx: tx.connection.execute("PRAGMA synchronous").fetchall()
        )
        [(mode,)] = await store._opened.writer.submit(  # noqa: SLF001
            lambda tx: tx.connection.execute("PRAGMA journal_mode").fetchall()
        )
        assert (level, mode) == (2, "wal"), f"synchronous={level}, journal_mode={mode}, not FULL and WAL"

    async def publish(self, number: int) -> None:
        """Emit; returns when it is on disk."""
        await self._queue.emit(EVENT, document(number))

    async def prepare(self, consumers: int) -> None:
        """Waypost is consumed by sockets, see `bench.queue.sockets`."""
        raise NotImplementedError

    async def consume(self, taken: Callable[[], None]) -> None:
        """Waypost is consumed by sockets, see `bench.queue.sockets`."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the store."""
        await self.io.close()


class RabbitMq:
    """RabbitMQ through aio-pika."""

    def __init__(self, address: str, kind: str) -> None:
        self._port = int(address)
        self._kind = kind
        self._connection: Any
        self._exchange: Any
        self._queues: list[Any] = []

    async def open(self, in_flight: int) -> None:
        """Open a channel with publisher confirms."""
        import aio_pika

        self._message = aio_pika.Message
        self._persistent = aio_pika.DeliveryMode.PERSISTENT
        self._connection = await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{self._port}/")
        channel = await self._connection.channel(publisher_confirms=True)
        await self._declare(channel)
        self._exchange = channel.default_exchange

    async def publish(self, number: int) -> None:
        """Publish a persistent message; returns with the confirm."""
        message = self._message(encoded(number), delivery_mode=self._persistent)
        await self._exchange.publish(message, f"{QUEUE} {self._kind}")

    async def prepare(self, consumers: int) -> None:
        """One channel for each consumer, with a prefetch."""

        async def make() -> Any:
            channel = await self._connection.channel()
            await channel.set_qos(prefetch_count=THEIR_PREFETCH)
            return await self._declare(channel)

        self._queues = await asyncio.gather(*(make() for _ in range(consumers)))

    async def consume(self, taken: Callable[[], None]) -> None:
        """An ack for each message."""

        async def take(message: Any) -> None:
            await message.ack()
            taken()

        await asyncio.gather(*(queue.consume(take) for queue in self._queues))

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _declare(self, channel: Any) -> Any:
        return await channel.declare_queue(
            f"{QUEUE} {self._kind}", durable=True, arguments={"x-queue-type": self._kind}
        )


class Redis:
    """Redis Streams through redis-py."""

    def __init__(self, address: str) -> None:
        self._port = int(address)
        self._tasks: list[asyncio.Task[None]] = []
        self._consumers = 0
        self._client: Any

    async def open(self, in_flight: int) -> None:
        """Connect with a pool of as many connections as are needed at a time."""
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.exceptions import ResponseError

        pool = BlockingConnectionPool(port=self._port, max_connections=max(in_flight, 200), timeout=None)
        self._client = Redis(connection_pool=pool)
        config = await self._client.config_get("append*")
        assert (config["appendonly"], config["appendfsync"]) == ("yes", "always"), config
        try:
            await self._client.xgroup_create(QUEUE, "group", "0", mkstream=True)
        except ResponseError as refusal:
            if "BUSYGROUP" not in str(refusal):
                raise

    async def publish(self, number: int) -> None:
        """Add to the stream; returns when it is in the flushed file."""
        await self._client.xadd(QUEUE, {"body": encoded(number)})

    async def prepare(self, consumers: int) -> None:
        """A connection for each consumer of the group."""
        self._consumers = consumers
        await asyncio.gather(*(self._client.ping() for _ in range(consumers)))

    async def consume(self, taken: Callable[[], None]) -> None:
        """A consumer group; one ack for all messages that came with one read."""
        for index in range(self._consumers):
            self._tasks.append(asyncio.create_task(self._take(f"consumer {index}", taken)))

    async def _take(self, name: str, taken: Callable[[], None]) -> None:
        while True:
            found = await self._client.xreadgroup("group", name, {QUEUE: ">"}, count=THEIR_PREFETCH, block=5000)
            for _, messages in found.items() if isinstance(found, dict) else found:
                batch = messages[0] if messages and isinstance(messages[0], list) else messages
                await self._client.xack(QUEUE, "group", *(number for number, _ in batch))
                for _ in batch:
                    taken()

    async def close(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()


class Nats:
    """NATS JetStream through nats-py."""

    def __init__(self, address: str) -> None:
        self._port = int(address)
        self._tasks: list[asyncio.Task[None]] = []
        self._subscriptions: list[Any] = []
        self._batch = 1
        self._connection: Any
        self._jetstream: Any

    async def open(self, in_flight: int) -> None:
        """Connect, and make a stream in files."""
        import nats
        from nats.js.api import StorageType, StreamConfig

        self._connection = await nats.connect(f"nats://127.0.0.1:{self._port}", pending_size=64 << 20)
        self._jetstream = self._connection.jetstream(publish_async_max_pending=4000)
        await self._jetstream.add_stream(
            StreamConfig(name=QUEUE, subjects=[QUEUE], storage=StorageType.FILE, num_replicas=1)
        )

    async def publish(self, number: int) -> None:
        """Publish; returns with the ack of the stream."""
        await self._jetstream.publish(QUEUE, encoded(number), timeout=30)

    async def prepare(self, consumers: int) -> None:
        """Pull subscriptions on one durable consumer."""
        # One that asks for all there is leaves the others waiting.
        self._batch = max(1, THEIR_PREFETCH // consumers)
        self._subscriptions = [await self._jetstream.pull_subscribe(QUEUE, durable="group") for _ in range(consumers)]

    async def consume(self, taken: Callable[[], None]) -> None:
        """An ack for each message."""
        self._tasks += [asyncio.create_task(self._take(one, taken)) for one in self._subscriptions]

    async def _take(self, subscription: Any, taken: Callable[[], None]) -> None:
        from nats.errors import TimeoutError as NothingCame

        while True:
            try:
                messages = await subscription.fetch(self._batch, timeout=1)
            except NothingCame:
                continue
            for message in messages:
                await message.ack()
                taken()

    async def close(self) -> None:
        """Close the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()


def make(contender: str, address: str) -> Broker:
    """Return the client of a contender: ``address`` is a port, Waypost's is a directory or a URL."""
    match contender:
        case "waypost" | "waypost-postgres":
            return Waypost(address)
        case "rabbitmq quorum" | "rabbitmq classic":
            return RabbitMq(address, contender.split()[1])
        case "redis streams":
            return Redis(address)
        case _:
            return Nats(address)
