"""The steps of a walk at queues, by any node: the one that owns a consumer, and ghosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.store import PostgresStore
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, DeadLetterFilter, FromPosition, NewMessageRow, Place

__all__ = ["CONSUMERS", "QueueWalk", "look_at_queues"]

_QUEUES = ["jobs", "mail"]
CONSUMERS = [(queue, consumer) for queue in _QUEUES for consumer in ("one", "two")]
"""The consumers, by queue and name. Nothing is held of those of the second queue, so these may move and go."""

_KEYS = [None, None, "k", "l"]
_LONG_S = 1e6
_ALL = 1 << 30
_PEEK = "SELECT * FROM waypost.queue_peek_1($1, $2, $3, $4)"
_INFO = "SELECT * FROM waypost.queue_info_1($1)"
_STATES = "SELECT waypost.consumers_1($1, $2, $3, $4)"
_FETCH = "SELECT * FROM waypost.queue_fetch_1($1, $2, $3, $4, $5)"


def _ignore(_: object) -> None:
    """Nothing is done with it."""


@dataclass(slots=True, eq=False)
class QueueWalk:
    """The steps.

    Attributes:
        chance: Decides.
        stores: The nodes.
        now: The time of all of them.
        number: Returns another number each time.
    """

    chance: Random
    stores: Sequence[PostgresStore]
    now: Callable[[], float]
    number: Callable[[], int]

    def _queue(self, name: str) -> StoredQueue:
        return self.chance.choice(self.stores).queue(name)

    async def begin(self) -> None:
        """Make the consumers, and let each have had an owner: an owner's row is what a claim and an ack lock."""
        for queue, consumer in CONSUMERS:
            await self.stores[0].queue(queue).add_consumer(consumer)
            nodes = self.stores[0].nodes
            assert nodes is not None
            await nodes.claim_consumer(queue, consumer)

    async def enqueue(self) -> None:
        """Add messages, some of them again, some of them later."""
        messages = [self._message() for _ in range(self.chance.randrange(1, 4))]
        window_s = self.chance.choice([0.0, _LONG_S])
        await self._queue(self.chance.choice(_QUEUES)).enqueue(messages, deduplicate_s=window_s, on_commit=_ignore)

    def _message(self) -> NewMessageRow:
        number = self.number()
        name = f"m{number if self.chance.random() < 0.6 else self.chance.randrange(8)}"
        ttl_s, delay_s = self.chance.choice([None, None, None, 5.0]), self.chance.choice([0.0, 0.0, 0.0, 2.0, 20.0])
        return NewMessageRow(name, b"%d" % number, self.chance.choice(_KEYS), ttl_s, delay_s)

    async def settle(self) -> None:
        """Let some messages of a consumer be done, tried again or given up; sometimes in an epoch that is over."""
        name, consumer = self.chance.choice(CONSUMERS)
        queue = self._queue(name)
        epoch = (await queue.consumer(consumer)).epoch - (self.chance.random() < 0.1)
        found = await queue.fetch(consumer, after=0, max_messages=6, max_bytes=_ALL)
        positions = [one.position for one in found if self.chance.random() < 0.4] + [self.chance.randrange(1, 30)]
        if self.chance.random() < 0.6:
            await queue.settle(consumer, epoch, positions)
            return
        attempts = [self._attempt(position) for position in positions[:2]]
        await (queue.retry if self.chance.random() < 0.6 else queue.bury)(consumer, epoch, attempts)

    def _attempt(self, position: int) -> Attempt:
        failures, losses = self.chance.randrange(4), self.chance.randrange(3)
        retry_at = self.now() + self.chance.choice([0.0, 3.0])
        return Attempt(position, failures, losses, "rejected", f"no {failures}", self.now(), retry_at, losses, 1, 0)

    async def hold(self) -> None:
        """Have a message in hand, or no longer."""
        position = self.chance.choice([None, self.chance.randrange(1, 30)])
        self.chance.choice(self.stores).queue("jobs").hold(self.chance.choice(["one", "two"]), "f", position)

    async def change(self) -> None:
        """Do something that is rare."""
        consumer, queue = self.chance.choice(["one", "two"]), self._queue("mail")
        match self.chance.randrange(6):
            case 0:
                await queue.seek(consumer, self._place())
            case 1:
                await queue.forget_loss(consumer, self.chance.randrange(40))
            case 2:
                await queue.purge(upto=self.chance.choice([None, self.chance.randrange(40)]))
            case 3:
                await self._queue(self.chance.choice(_QUEUES)).cancel(f"m{self.chance.randrange(8)}")
            case 4:
                await queue.remove_consumer(consumer)
                await queue.add_consumer(consumer, start=self._place())
            case _:
                await queue.pause(consumer, until=self.now() + 5)

    async def letters(self) -> None:
        """Make dead letters messages again, or forget them."""
        queue = self._queue(self.chance.choice(_QUEUES))
        if self.chance.random() < 0.3:
            await queue.discard_dead(self._filter(), max_letters=2)
            return
        first_at = self.now() + self.chance.choice([0.0, 2.0])
        await queue.redrive(self._filter(), after=0, max_letters=3, spacing_s=1.0, first_at=first_at)

    def _place(self) -> Place:
        return self.chance.choice(["oldest", "new", FromPosition(self.chance.randrange(1, 30))])

    def _filter(self) -> DeadLetterFilter:
        return DeadLetterFilter(consumer=self.chance.choice([None, "one"]), key=self.chance.choice(_KEYS))

    async def read(self) -> None:
        """Read, in each of the ways."""
        name, consumer = self.chance.choice(CONSUMERS)
        queue, upto = self._queue(name), self.chance.randrange(1, 40)
        match self.chance.randrange(6):
            case 0:
                await queue.peek(after=0, max_messages=9, max_bytes=_ALL)
            case 1:
                await queue.info()
            case 2:
                await queue.consumers()
            case 3:
                await queue.dead_letters(self._filter(), after=0, max_letters=5, max_bytes=_ALL)
            case 4:
                await queue.fetch_key(consumer, "k", after=0, upto=upto, max_messages=4, max_bytes=8)
            case _:
                await queue.fetch_retries(consumer, upto=upto, held={3}, max_messages=3, max_bytes=_ALL)

    async def upkeep(self) -> None:
        """Let time bring what it brings."""
        if self.chance.random() < 0.6:
            await self.chance.choice(self.stores).release_due()
            return
        for store in self.stores:
            # One of them does it, and the others do nothing.
            await store.trim()


async def look_at_queues(observer: Connection) -> None:
    """Read all that there is in queues."""
    for queue in _QUEUES:
        await observer.rows(_INFO, queue)
        await observer.rows(_PEEK, queue, 0, _ALL, _ALL)
        await observer.rows(_STATES, queue, None, "", _ALL)
    for queue, consumer in CONSUMERS:
        if await observer.rows(_STATES, queue, consumer, "", 1):
            await observer.rows(_FETCH, queue, consumer, 0, _ALL, _ALL)
