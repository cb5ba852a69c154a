"""A server in memory and clients of its queues, for the tests of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import waypost
from tests.server.model_client import ModelClient, running, until
from tests.support.waiting import DEADLINE_S
from waypost.server.basics.environment import Environment

QUEUE = "jobs"


class Clock:
    """Wall time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """A server, and the clients that consume its queue.

    Attributes:
        io: The server.
        consume: What each client asks for, beside the queue.
        clients: Those that have come.
    """

    def __init__(self, io: waypost.Server, consume: dict[str, Any]) -> None:
        self.io = io
        self.consume = consume
        self.sockets: dict[str, waypost.Socket] = {}

        @io.on("connect")
        async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
            self.sockets[socket.id] = socket
            await socket.consume(QUEUE, **{"consumer": auth.get("token", "default"), **self.consume})

    @property
    def queue(self) -> waypost.Queue:
        return self.io.queue(QUEUE)

    async def put(self, *jobs: Any, **options: Any) -> None:
        for job in jobs:
            await self.queue.emit("job", job, **options)

    async def client(self, consumer: str = "default", *, auto_ack: bool = False) -> Worker:
        client = Worker(self.io)
        client.auto_ack = auto_ack
        await client.connect(consumer)
        return client

    def socket_of(self, client: ModelClient) -> waypost.Socket:
        assert client.sid is not None
        return self.sockets[client.sid]

    async def info(self, consumer: str = "default") -> waypost.ConsumerInfo:
        # Acks gather for some milliseconds before they are stored.
        await asyncio.sleep(0.01)
        return await self.queue.get_consumer(consumer).info()

    async def settled(self, consumer: str = "default") -> None:
        """Wait until a consumer has nothing left to do, and that is stored."""
        async with asyncio.timeout(DEADLINE_S):
            while (await self.info(consumer)).waiting:
                await asyncio.sleep(0.001)


class Worker(ModelClient):
    """A client that acknowledges when it is told to."""

    @property
    def jobs(self) -> list[Any]:
        return [event[1] for event in self.events if event[0] == "job"]

    async def gets(self, count: int) -> list[Any]:
        """Wait until it has been given so many jobs in all."""
        await until(lambda: len(self.jobs) >= count)
        await quiet()
        assert len(self.jobs) == count, self.jobs
        return self.jobs

    def reply(self, job: Any, answer: str = "[]") -> None:
        """Acknowledge the newest unanswered delivery of a job; the ones before are void by then."""
        for number, (ack_id, arguments) in reversed(list(enumerate(self.to_acknowledge))):
            if arguments[1] == job:
                del self.to_acknowledge[number]
                self.acknowledge(ack_id, answer)
                return
        raise AssertionError(f"{job} is not there to be answered: {self.to_acknowledge}")


async def quiet() -> None:
    """Let everything happen that is about to."""
    for _ in range(30):
        await asyncio.sleep(0)


@asynccontextmanager
async def site(
    *,
    order: str = "strict",
    clock: Clock | None = None,
    consume: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Site]:
    """Run a server in memory whose clients consume its queue; other arguments are the queue's options."""
    queues = waypost.QueueOptions(**{"first_backoff_s": 0.0, **options})
    environment = Environment() if clock is None else Environment(wall_time=clock)
    io = waypost.Server(drain_s=0.0, queues=queues, environment=environment, **(server or {}))
    async with running(io):
        yield Site(io, {"order": order, "prefetch": queues.prefetch, **(consume or {})})
