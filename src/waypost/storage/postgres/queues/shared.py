"""The parts that all queues of an open PostgreSQL store share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from waypost.errors import StoreClosed
from waypost.storage.postgres.engine import Engine
from waypost.storage.postgres.lanes import Lane, Write
from waypost.storage.postgres.queues.holds import Holds
from waypost.storage.postgres.queues.rows import encoded, limits_values, to_json
from waypost.storage.postgres.queues.writing import Change, QueueWork
from waypost.storage.queue_records import QueueLimits

__all__ = ["SharedQueues"]

# So many lanes stay though nothing is written.
_IDLE_LANES: Final = 64


class SharedQueues:
    """The parts that all queues of an open store share.

    Args:
        engine: The engine.
        limits: The limits of queues without their own.
        written: Called after each write that was done, with the queue's name, what it was, and the positions of the
            messages that it has added.

    Attributes:
        engine: The engine.
        limits: The limits of queues without their own.
        defaults: These, as JSON.
        holds: The notes of held messages.
        loop: The event loop.
    """

    def __init__(self, engine: Engine, limits: QueueLimits, written: Callable[[str, str, list[int]], None]) -> None:
        self.engine = engine
        self.limits = limits
        self.defaults = to_json(limits_values(limits))
        self.holds = Holds(engine)
        self.loop = asyncio.get_running_loop()
        self._written = written
        self._lanes: dict[str, Lane] = {}
        self._is_closed = False

    def check(self) -> None:
        """Check that the store is open.

        Raises:
            StoreClosed: It is not.
        """
        if self._is_closed:
            raise StoreClosed(self.engine.name)

    def lane(self, queue: str) -> Lane:
        """Return the lane of a queue's writes."""
        self.check()
        lane = self._lanes.get(queue)
        if lane is None:
            if len(self._lanes) >= _IDLE_LANES:
                self._lanes = {name: one for name, one in self._lanes.items() if not one.is_idle}
            work = QueueWork(self.engine.name, queue, self.defaults, partial(self._written, queue))
            lane = self._lanes[queue] = self.engine.lane(work)
        return lane

    async def settled(self, queue: str) -> None:
        """Wait until nothing that was asked of a queue so far is under way."""
        lane = self._lanes.get(queue)
        if lane is not None and not lane.is_idle:
            # A write that changes nothing comes after all of them.
            change = Change("wait", encoded({}), _ignore)
            await lane.add(Write(f"wait for queue {queue}", change, _ignore, self.loop.create_future()))

    def decode(self, answer: Any) -> Any:
        """Return what JSON text says."""
        return msgspec.json.decode(answer)

    async def close(self) -> None:
        """Finish what was asked for, and take nothing more."""
        self._is_closed = True
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))
        await self.holds.stop()


def _ignore(_: object) -> None:
    """Neither report nor return anything."""
