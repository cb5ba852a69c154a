"""Each kind of write to a queue whose answer was lost for good: told as uncertain, and done once or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.storage.backends import UNLIMITED, ignore, put
from tests.storage.postgres.stores import insist, opened, until
from tests.support.line import Line, Way
from tests.support.postgres import PostgresServer
from waypost.errors import StorageUncertain
from waypost.storage.postgres.store import PostgresStore
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, DeadLetterFilter, NewMessageRow, QueueLimits

pytestmark = pytest.mark.long

Write = Callable[[StoredQueue, int], Awaitable[Any]]

_MARKS: Final = "SELECT count(*) FROM waypost.write_mark"
_EVERY: Final = DeadLetterFilter()
_LIMITS: Final = QueueLimits(max_messages=6, overflow="drop_oldest")
_FAR: Final = 4e9
_LONG_S: Final = 1e6


def _failed(position: int) -> list[Attempt]:
    return [Attempt(position, 1, 0, "rejected", "no", 1.0, retry_at=_FAR)]


# Each changes a queue as `prepare` leaves it; it gets the epoch of the consumer, too.
WRITES: dict[str, Write] = {
    "enqueue": lambda queue, epoch: put(queue, "9"),
    "settle": lambda queue, epoch: queue.settle("worker", epoch, [5, 7]),
    "retry": lambda queue, epoch: queue.retry("worker", epoch, _failed(5)),
    "bury": lambda queue, epoch: queue.bury("worker", epoch, _failed(5)),
    "purge": lambda queue, epoch: queue.purge(upto=6),
    "cancel": lambda queue, epoch: queue.cancel("later"),
    "configure": lambda queue, epoch: queue.configure(replace(_LIMITS, max_messages=3), b"{}"),
    "delete": lambda queue, epoch: queue.delete(),
    "add a consumer": lambda queue, epoch: queue.add_consumer("other"),
    "seek": lambda queue, epoch: queue.seek("worker", "new"),
    "pause a consumer": lambda queue, epoch: queue.pause("worker", until=_FAR),
    "pause the queue": lambda queue, epoch: queue.pause(None, until=_FAR),
    "remove a consumer": lambda queue, epoch: queue.remove_consumer("worker"),
    "forget a loss": lambda queue, epoch: queue.forget_loss("worker", 3),
    "redrive": lambda queue, epoch: queue.redrive(_EVERY, after=0, max_letters=9, spacing_s=0, first_at=0),
    "discard dead letters": lambda queue, epoch: queue.discard_dead(_EVERY, max_letters=9),
}


async def prepare(queue: StoredQueue) -> None:
    """Give a queue what each of the writes changes."""
    await queue.configure(_LIMITS, b"{}")
    await queue.add_consumer("worker")
    for number in range(1, 9):
        await put(queue, str(number))
    later = NewMessageRow("later", b"record", delay_s=_LONG_S)
    await queue.enqueue([later], deduplicate_s=0, on_commit=ignore)
    await queue.bury("worker", await epoch_of(queue), _failed(4))


async def epoch_of(queue: StoredQueue) -> int:
    """Return the epoch of the consumer, a random number."""
    return (await queue.consumer("worker")).epoch


async def seen(queue: StoredQueue, epoch: int) -> tuple[object, ...]:
    """Return what is in a queue, without names and times, and whether its consumer's epoch is this one."""
    info = (await queue.info())._replace(name="", generation="", oldest_at=None)
    rows = await queue.consumers()
    consumers = [replace(one, generation="", active_at=0.0, epoch=one.epoch == epoch) for one in rows]
    messages = await queue.peek(after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)
    letters = await queue.dead_letters(_EVERY, after=0, max_letters=UNLIMITED, max_bytes=UNLIMITED)
    configuration = await queue.configuration()
    waiting = [
        [one.position for one in await queue.fetch(row.name, after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)]
        for row in consumers
    ]
    return (
        info,
        consumers,
        waiting,
        [(one.position, one.id) for one in messages],
        [one.position for one in letters],
        (configuration.limits, configuration.settings),
    )


@pytest.fixture
def line(postgres: PostgresServer) -> Iterator[Line]:
    """A line to the server."""
    with Line("127.0.0.1", postgres.port) as line:
        yield line


@pytest.fixture
def database(postgres_url: str) -> str:
    """The name of the test's database."""
    return postgres_url.rpartition("/")[2]


@pytest.fixture
async def store(line: Line, database: str) -> AsyncIterator[PostgresStore]:
    """A store over the line; it has one connection for writes, and gives up soon."""
    url = f"postgresql://postgres@127.0.0.1:{line.port}/{database}?waypost_connections=1"
    async with opened(url, patience_s=0.3) as store:
        yield store


@pytest.mark.parametrize("name", WRITES)
async def test_an_uncertain_write_was_done_once_or_not_at_all(
    store: PostgresStore, line: Line, postgres: PostgresServer, database: str, name: str
) -> None:
    queue, twin = store.queue("the-queue"), store.queue("its-twin")
    await prepare(queue)
    await prepare(twin)
    epoch, twins = await epoch_of(queue), await epoch_of(twin)
    before = await seen(queue, epoch)
    assert await seen(twin, twins) == before
    await WRITES[name](twin, twins)
    done = await seen(twin, twins)
    assert done != before, "the write changes nothing that is seen"

    # It does not get there.
    line.freeze(Way.THERE)
    write = asyncio.ensure_future(WRITES[name](queue, epoch))
    await until(lambda: b"the-queue" in line.held(Way.THERE))
    await lost(line, write, "the-queue")
    assert await insist(lambda: seen(queue, epoch)) == before

    # It is done, and its answer does not come back. The new connection has made each call before.
    other = store.queue("any-other")
    await insist(lambda: put(other, "1"))
    await other.add_consumer("worker")
    marks = postgres.execute(_MARKS, database=database)
    line.freeze(Way.BACK)
    write = asyncio.ensure_future(WRITES[name](queue, epoch))
    await until(lambda: postgres.execute(_MARKS, database=database) != marks)
    uncertain = await lost(line, write, "the-queue")
    assert await insist(lambda: seen(queue, epoch)) == done
    if name == "enqueue":
        assert uncertain.ids == ("9",)
        assert (await put(queue, "9")).duplicate
        assert await seen(queue, epoch) == done


async def lost(line: Line, write: asyncio.Future[Any], queue: str) -> StorageUncertain:
    """Cut the line while a write is under way, and let the store give it up."""
    line.take_down()
    line.thaw()
    with pytest.raises(StorageUncertain) as uncertain:
        await write
    assert queue in uncertain.value.operation
    line.put_up()
    return uncertain.value
