"""The backends that the storage contract is tested on, and what its tests share."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol, cast

from tests.support.postgres import shared_postgres
from waypost.storage.base import Journal, Store
from waypost.storage.choose import Clocks, StoreOptions
from waypost.storage.host.host import StoreHost
from waypost.storage.journal_records import Entry, Retention
from waypost.storage.memory.store import MemoryStore
from waypost.storage.postgres.driver import connect
from waypost.storage.postgres.schema import migrate
from waypost.storage.postgres.store import PostgresStore
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Accepted, ConsumerRow, NewMessageRow, QueueLimits
from waypost.storage.remote.store import RemoteStore
from waypost.storage.sqlite.store import SqliteStore
from waypost.storage.wire.link import Link, memory_link

UNLIMITED = 1 << 40
WallTime = Callable[[], float]


@dataclass(slots=True)
class Clock:
    """Wall time that a test moves."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Factory(Protocol):
    """Makes a store on its own file, or anew on the one it made last."""

    def __call__(
        self, *, retention: Retention | None = None, queue_limits: QueueLimits | None = None, wall_time: WallTime
    ) -> Store: ...


def memory_factory(_: Path) -> Factory:
    def make(
        *, retention: Retention | None = None, queue_limits: QueueLimits | None = None, wall_time: WallTime
    ) -> Store:
        return MemoryStore(retention=retention, queue_limits=queue_limits, wall_time=wall_time)

    return make


def sqlite_factory(directory: Path) -> Factory:
    numbers = count()

    def make(
        *, retention: Retention | None = None, queue_limits: QueueLimits | None = None, wall_time: WallTime
    ) -> Store:
        return SqliteStore(
            directory / f"{next(numbers)}.db", retention=retention, queue_limits=queue_limits, wall_time=wall_time
        )

    return make


def small_tail_factory(directory: Path) -> Factory:
    """SQLite with hardly any tail, so that reads come from the file."""
    numbers = count()

    def make(
        *, retention: Retention | None = None, queue_limits: QueueLimits | None = None, wall_time: WallTime
    ) -> Store:
        path = directory / f"{next(numbers)}.db"
        return SqliteStore(path, retention=retention, queue_limits=queue_limits, wall_time=wall_time, tail_bytes=20)

    return make


def async_factory(directory: Path) -> Factory:
    """SQLite that reports writes to journals at once, with a small tail, too."""
    numbers = count()

    def make(
        *, retention: Retention | None = None, queue_limits: QueueLimits | None = None, wall_time: WallTime
    ) -> Store:
        path = directory / f"{next(numbers)}.db"
        return SqliteStore(
            path,
            durability="async",
            retention=retention,
            queue_limits=queue_limits,
            wall_time=wall_time,
            tail_bytes=20,
        )

    return make


class Hosted:
    """A node alone with its host, as one store: the host is opened and closed with it."""

    def __init__(self, options: StoreOptions, clocks: Clocks) -> None:
        self._host = StoreHost(clocks=clocks)
        self._options = options
        self._store = RemoteStore(self._connect, options, clocks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def beat(self) -> None:
        """Let the host tell what it tells each second."""
        self._host.beat()

    async def open(self) -> None:
        if self._host.options is None:
            await self._host.open(self._options)
        await self._store.open()

    async def close(self) -> None:
        await self._store.close()
        await self._host.close()

    async def _connect(self) -> Link:
        theirs, ours = memory_link()
        self._host.attach(theirs)
        return ours


def hosted_factory(spec: str, **options: Any) -> Callable[[Path], Factory]:
    """Stores in another place, over a link: alone on a host."""

    def factory(directory: Path) -> Factory:
        numbers = count()

        def make(
            *, retention: Retention | None = None, queue_limits: QueueLimits | None = None, wall_time: WallTime
        ) -> Store:
            hosted = Hosted(
                StoreOptions(
                    spec=spec.format(directory / f"hosted-{next(numbers)}.db"),
                    retention=retention or Retention(),
                    queue_limits=queue_limits or QueueLimits(),
                    **options,
                ),
                Clocks(wall_time=wall_time),
            )
            return cast(Store, hosted)

        return make

    return factory


class PostgresFactory:
    """Stores on PostgreSQL, each on a database of its own."""

    def __init__(self, _: Path) -> None:
        self._server = shared_postgres()
        self._databases: list[str] = []

    def __call__(
        self, *, retention: Retention | None = None, queue_limits: QueueLimits | None = None, wall_time: WallTime
    ) -> Store:
        name = self._server.create_database(POSTGRES_TEMPLATE)
        self._databases.append(name)
        url = self._server.url(name)
        return PostgresStore(url, retention=retention, queue_limits=queue_limits, wall_time=wall_time)

    def drop(self) -> None:
        """Remove the databases."""
        for name in self._databases:
            self._server.drop_database(name)


POSTGRES_TEMPLATE = "waypost"
"""The database that those of the tests are copied from; the fixture of the room makes it by `make_schema`."""


def make_schema(url: str) -> None:
    """Make the schema in an empty database."""

    async def make() -> None:
        connection = await connect(url, "template")
        await migrate(connection)
        await connection.close()

    asyncio.run(make())


BACKENDS: dict[str, Callable[[Path], Factory]] = {
    "memory": memory_factory,
    "sqlite": sqlite_factory,
    "sqlite-small-tail": small_tail_factory,
    "sqlite-async": async_factory,
    "hosted-memory": hosted_factory("memory:"),
    "hosted-sqlite": hosted_factory("{}", tail_bytes=20),
    "postgres": PostgresFactory,
}

# What small tails are good for is nothing to queues.
QUEUE_BACKENDS = [name for name in BACKENDS if name != "sqlite-small-tail"]


def ignore(_: object) -> None:
    """An on_commit for who does not care."""


def keeps(store: Store) -> bool:
    """Tell whether a store, closed and opened again, has what it had."""
    return "memory" not in store.capabilities.description.split()[0]


def defers(store: Store) -> bool:
    """Tell whether a store reports writes to journals before they are on disk."""
    return keeps(store) and not store.capabilities.durable


async def flush(journal: Journal) -> None:
    """Wait until all that was asked for is written, also where it is reported before."""
    await journal.find_session(b"")


def record_of(position: int) -> bytes:
    """A record that tells its position, of varying size."""
    return b"%d:" % position + b"x" * (position * 7 % 23)


async def fill(journal: Journal, entries: int) -> None:
    """Append entries whose records tell their positions."""
    for _ in range(entries):
        await journal.append(record_of(journal.top + 1), ignore)


async def read_all(journal: Journal, after: int = 0) -> list[Entry]:
    """Read everything after a position."""
    return await journal.read(after, UNLIMITED, max_entries=UNLIMITED, max_bytes=UNLIMITED)


async def put(
    queue: StoredQueue, message_id: str, record: bytes = b"record", *, deduplicate_s: float = 600
) -> Accepted:
    """Enqueue a message."""
    enqueued = await queue.enqueue([NewMessageRow(message_id, record)], deduplicate_s=deduplicate_s, on_commit=ignore)
    return enqueued.accepted[0]


async def settle(queue: StoredQueue, consumer: str, positions: Iterable[int]) -> ConsumerRow:
    """Settle messages in the consumer's current epoch."""
    epoch = (await queue.consumer(consumer)).epoch
    return await queue.settle(consumer, epoch, [*positions])


async def positions(queue: StoredQueue, consumer: str, after: int = 0) -> list[int]:
    """Return the positions of what a consumer still has to do."""
    messages = await queue.fetch(consumer, after=after, max_messages=UNLIMITED, max_bytes=UNLIMITED)
    return [message.position for message in messages]


def runs(done: list[int]) -> Iterator[int]:
    """Return positions that are not dense from 1: none, if all is well."""
    return (found for expected, found in enumerate(done, 1) if found != expected)


Use = Callable[[Store], Awaitable[object]]


def on_backend(
    backend: str, clock: Clock, retention: Retention | None, run: Callable[[Store], Awaitable[None]]
) -> None:
    async def main(directory: Path) -> None:
        factory = BACKENDS[backend](directory)
        store = factory(retention=retention, wall_time=clock)
        await store.open()
        await run(store)
        await store.close()
        if isinstance(factory, PostgresFactory):
            factory.drop()

    directory = Path(tempfile.mkdtemp(prefix="waypost-model-"))
    try:
        asyncio.run(main(directory))
    finally:
        shutil.rmtree(directory)
