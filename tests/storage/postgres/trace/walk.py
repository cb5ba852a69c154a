"""A random walk of stores on one PostgreSQL: writes from several nodes at once, deaths, and lines that break."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from random import Random

from tests.storage.postgres.trace.order import Played, check
from tests.storage.postgres.trace.queue_walk import CONSUMERS, QueueWalk, look_at_queues
from tests.storage.postgres.trace.recorder import Call, Recorder, prepare, read_places
from tests.storage.postgres.trace.steps import WRITES
from tests.support.databases import drop_database, make_database
from waypost.errors import StorageError
from waypost.storage.answer_base import Answer, AnswerGivenUp, AnswerLimits
from waypost.storage.base import Journal
from waypost.storage.journal_records import Retention
from waypost.storage.postgres.driver import Connection, EngineGone, Pool, Refusal, connect
from waypost.storage.postgres.store import PostgresStore
from waypost.storage.queue_records import QueueLimits

__all__ = ["AT_QUEUES", "AT_SESSIONS", "BrokenOff", "Course", "walk"]

AT_QUEUES = ("enqueue", "settle", "read", "change", "upkeep", "hold", "wait", "consumer", "declare")
"""The steps at queues, to be preferred."""
AT_SESSIONS = ("session", "expire", "answer", "wait", "terminate")
"""The steps at sessions and answers."""

_KEYS = [b"alice", b"bob", b"carol"]
_CLIENTS = [b"client one", b"client two"]
_ROOMS = ["red", "green", "sid alice"]
_JOURNALS = ["/", "/chat"]
_WORKERS = 6
_LIFE_S = 30.0
_WAITS_S = 0.3
_LONGEST_S = 10.0
_DEADLINE_S = 60.0
_LOCKED = "55P03"
_DECLARE = "SELECT waypost.declare_1($1, $2, $3, $4)"
_RESTORED = "SELECT waypost.restored_1()"
_TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = $1
"""
_FOLLOW = "SELECT * FROM waypost.follow_1($1, $2, $3, $4, $5, $6)"
_FIND = "SELECT key, result, data, tick FROM waypost.find_sessions_1($1, $2, $3)"
_OWNERS = "SELECT * FROM waypost.owners_1($1, $2)"
# No statements of the store: what it needs for a declaration it knows from its beats.
_LIVING = "SELECT id, incarnation, counter FROM waypost.node JOIN waypost.beat ON node = id WHERE state = 'alive'"
_BUSY = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND (state <> 'idle' OR state IS NULL) AND backend_type = 'client backend'
"""


class BrokenOff(Exception):
    """A walk did not come to its end in time; what it did until then is as it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a walk does.

    Attributes:
        nodes: How many nodes there are.
        steps: How many steps they do together.
        breaks: How likely the line of a writing call breaks.
        prefers: The steps that are more likely, by their names.
        acts: What is done with sessions, by the numbers of `_Walk.session`.
        restores: How likely, beside the other steps, the database is told to be a restored copy.
        deadline_s: When it is broken off.
    """

    nodes: int = 3
    steps: int = 200
    breaks: float = 0.05
    prefers: tuple[str, ...] = ()
    acts: tuple[int, ...] = tuple(range(14))
    restores: int = 0
    deadline_s: float = 60.0


@dataclass(slots=True)
class _Clock:
    """The time of all stores, and of the engine."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def _ignore(_: object) -> None:
    """Nothing is done with it."""


@dataclass(slots=True, eq=False)
class _Walk:
    chance: Random
    clock: _Clock
    stores: list[PostgresStore]
    observers: Pool
    course: Course
    left: int
    queues: QueueWalk
    number: Callable[[], int]

    async def work(self) -> None:
        while self.left > 0:
            self.left -= 1
            try:
                async with asyncio.timeout(_WAITS_S if self.chance.random() < 0.1 else _LONGEST_S):
                    await self.step()
            except (StorageError, TimeoutError):
                continue
            except EngineGone:
                # A declaration before was cut short, and its connection with it.
                continue
            except Refusal as refusal:
                # A write of the node that is declared dead goes on for too long.
                if refusal.sqlstate != _LOCKED:
                    raise

    async def step(self) -> None:
        queues = self.queues
        steps = [
            (8, self.append), (16, self.session), (3, self.several), (3, self.consumer), (3, self.look),
            (1, self.declare), (2, self.wait), (1, self.expire), (8, queues.enqueue), (8, queues.settle),
            (4, queues.read), (4, queues.change), (2, queues.hold), (2, queues.upkeep), (2, queues.letters),
            (4, self.answer), (1, self.terminate), (self.course.restores, self.restore),
        ]  # fmt: skip
        weights = [weight * (1 + 19 * (step.__name__ in self.course.prefers)) for weight, step in steps]
        await self.chance.choices([step for _, step in steps], weights)[0]()

    async def wait(self) -> None:
        self.clock.now += self.chance.choice([0.25, 1.0, 8.0])

    async def journal(self) -> Journal:
        return await self.chance.choice(self.stores).journal(self.chance.choice(_JOURNALS))

    def text(self) -> bytes:
        return b"%d" % self.number()

    async def append(self) -> None:
        journal = await self.journal()
        await journal.append(self.text(), _ignore)

    async def several(self) -> None:
        journal = await self.journal()
        writes: list[Awaitable[object]] = [
            journal.append(self.text(), _ignore) for _ in range(self.chance.randrange(1, 24))
        ]
        writes.insert(self.chance.randrange(len(writes)), journal.save_session(self.key(), self.text()))
        await asyncio.gather(*writes, return_exceptions=True)

    def key(self) -> bytes:
        return self.chance.choice(_KEYS)

    def rooms(self) -> list[str]:
        return self.chance.sample(_ROOMS, self.chance.randrange(1, 3))

    async def session(self) -> None:
        journal, key, act = await self.journal(), self.key(), self.chance.choice(self.course.acts)
        match act:
            case 0 | 1 | 2:
                await journal.open_session(key, f"sid {key.decode()}", self.text(), _ignore)
            case 3 | 4:
                async with asyncio.timeout(_WAITS_S):
                    await journal.claim_session(key)
                if self.chance.random() < 0.7:
                    await journal.attach_session(key, _ignore)
            case 5:
                await journal.attach_session(key, _ignore)
            case 6:
                await journal.detach_session(key, self.clock.now + self.chance.choice([0.5, _LIFE_S]))
            case 7 | 8:
                await journal.release_session(key, self.text())
            case 9:
                await journal.save_session(key, self.text())
            case 10:
                await journal.end_session(key)
            case 11:
                await journal.join(key, self.rooms(), _ignore)
            case 12:
                await journal.leave(key, self.rooms(), _ignore)
            case _:
                await self.rarely(journal, key)

    async def rarely(self, journal: Journal, key: bytes) -> None:
        some = self.chance.choice([None, self.rooms()])
        without = self.chance.choice([[], self.rooms()])
        match self.chance.randrange(5):
            case 0:
                await journal.join_matching(some, without, self.rooms(), _ignore)
            case 1:
                await journal.leave_matching(some, without, self.rooms(), _ignore)
            case 2:
                await journal.end_matching(some, without, _ignore, note=b"note")
            case 3:
                await journal.note_stuck(key, self.chance.randrange(9), 1)
            case _:
                journal.prove(key, self.chance.randrange(1, 40), self.chance.randrange(9))
                await journal.find_session(key)

    async def look(self) -> None:
        journal = await self.journal()
        await journal.find_session(self.key())

    async def answer(self) -> None:
        answers, client = self.chance.choice(self.stores).answers(), self.chance.choice(_CLIENTS)
        number = self.number()
        if self.chance.random() < 0.4:
            earlier = max(1, number - self.chance.randrange(60))
            with contextlib.suppress(AnswerGivenUp):
                await answers.find(client, earlier, f"message {earlier}")
            return
        account = self.chance.choice(["", "somebody"])
        settled = max(0, number - self.chance.randrange(20, 90))
        record = b"x" * self.chance.randrange(1, 200)
        await answers.keep(Answer(client, number, f"message {number}", record, account), settled)

    async def terminate(self) -> None:
        """End a connection of a node in the server, whatever it does at the moment."""
        async with self.observers.take() as observer:
            purpose = self.chance.choice(["append", "append", "read", "notices", "beats"])
            node = self.chance.randrange(self.course.nodes)
            await observer.rows(_TERMINATE, f"waypost {purpose} n{node}")

    async def restore(self) -> None:
        """Say that the database was restored from a copy: all sessions end."""
        async with self.observers.take() as observer:
            await observer.value(_RESTORED)

    async def expire(self) -> None:
        await self.chance.choice(self.stores).expire_sessions()

    async def consumer(self) -> None:
        nodes = self.chance.choice(self.stores).nodes
        assert nodes is not None
        queue, consumer = self.chance.choice(CONSUMERS)
        if self.chance.random() < 0.6:
            await nodes.claim_consumer(queue, consumer)
        else:
            await nodes.release_consumer(queue, consumer)

    async def declare(self) -> None:
        """Let a living node be dead for the others: from now on it is a ghost, until it finds out."""
        async with self.observers.take() as observer:
            living = await observer.rows(_LIVING)
            if living:
                await observer.value(_DECLARE, *self.chance.choice(living), _LIFE_S)


async def walk(seed: int, course: Course, script: str = "") -> Played:
    """Walk at random on a database of its own, and play what the stores have sent.

    Args:
        seed: What decides on the walk's steps; not on how the nodes' calls fall between each other.
        course: What it does.
        script: Is run on the database before.

    Raises:
        NoOrder: The pure engine does not give what came.
        BrokenOff: It took too long.
    """
    url = make_database()
    try:
        looker = await connect(url, "looks")
        try:
            await prepare(looker)
            if script:
                await looker.run(script)
            calls, is_late = await _record(url, looker, seed, course)
            queues = {row["id"]: row["name"] for row in await looker.rows("SELECT id, name FROM waypost.queue")}
            played = check(calls, await read_places(looker), queues)
            if is_late:
                raise BrokenOff(f"the walk of seed {seed} was broken off after {course.deadline_s} s")
            return played
        finally:
            await looker.close()
    finally:
        drop_database(url)


async def _record(url: str, looker: Connection, seed: int, course: Course) -> tuple[list[Call], bool]:
    recorder, clock, chance = Recorder(Random(seed), WRITES), _Clock(), Random(seed)
    with recorder.below_the_driver():
        observers = Pool(1, lambda: connect(url, "observer of the walk", now=clock))
        limits = QueueLimits(max_messages=25, max_age_s=40, overflow=chance.choice(["refuse", "drop_oldest"]))
        async with _opened(url, course.nodes, clock, limits) as stores:
            numbers = count(1)
            queues = QueueWalk(chance, stores, clock, lambda: next(numbers))
            await queues.begin()
            for name in _JOURNALS:
                # One that is just being made is not seen by a generation that begins meanwhile, nor needs it any.
                await stores[0].journal(name)
            recorder.breaks = course.breaks
            wander = _Walk(chance, clock, stores, observers, course, course.steps, queues, lambda: next(numbers))
            tasks = [asyncio.create_task(wander.work()) for _ in range(_WORKERS)]
            _, late = await asyncio.wait(tasks, timeout=course.deadline_s)
            recorder.breaks = 0.0
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=bool(late))
        await _until_idle(looker)
        async with observers.take() as observer:
            await _look_at_all(observer, looker)
        await observers.close()
    return recorder.calls, bool(late)


@asynccontextmanager
async def _opened(
    url: str, nodes: int, clock: Callable[[], float], limits: QueueLimits
) -> AsyncIterator[list[PostgresStore]]:
    stores: list[PostgresStore] = []
    try:
        for number in range(nodes):
            store = PostgresStore(
                url,
                node=f"n{number}",
                patience_s=5,
                orphan_ttl_s=_LIFE_S,
                wall_time=clock,
                steady_time=time.monotonic,
                answer_ttl_s=60.0,
                answer_limits=AnswerLimits(account_bytes=1500),
                retention=Retention(max_entries=80),
                queue_limits=limits,
            )
            await store.open()
            stores.append(store)
        yield stores
    finally:
        await asyncio.gather(*(store.close() for store in stores))


async def _until_idle(looker: Connection) -> None:
    """Wait until nothing goes on in the server: what a line was cut from may still end."""
    async with asyncio.timeout(_DEADLINE_S):
        while await looker.value(_BUSY):
            await asyncio.sleep(0.02)


async def _look_at_all(observer: Connection, looker: Connection) -> None:
    """Read all that there is, so that what nobody has asked for is compared, too."""
    numbers = [row["id"] for row in await looker.rows("SELECT id FROM waypost.journal ORDER BY id")]
    nothing = [0 for _ in numbers]
    await observer.rows(_FOLLOW, 0, numbers, nothing, nothing, 1 << 30, 1 << 40)
    for number in numbers:
        await observer.rows(_FIND, number, _KEYS, 0)
    await look_at_queues(observer)
    await observer.rows(_OWNERS, *map(list, zip(*CONSUMERS, strict=True)))
