"""Queues to sockets: each consumer's messages, in order, one at a time, until they are acknowledged.

A consumer that has sockets attached has a `_Runner`; one that has none costs nothing but its row in the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from waypost.errors import NotConnected, StorageError, StoreClosed
from waypost.storage.queue_base import Queue
from waypost.storage.queue_records import Attempt, Message

if TYPE_CHECKING:
    from waypost.server.channel import Channel
    from waypost.server.options import Environment

__all__ = ["Deliveries"]

logger = logging.getLogger("waypost.queue")

_FETCH_MESSAGES = 32
_FETCH_BYTES = 1 << 20
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 300.0
_RETRY_JITTER = 0.2


class _Outcome(Enum):
    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    LOST = "lost"


class Deliveries:
    """All consumers that have sockets attached.

    Args:
        queue: Opens a queue of the store.
        environment: Chance, for the jitter of retries.
        keep_task: Holds on to a task until it is done.
    """

    def __init__(
        self,
        queue: Callable[[str], Queue],
        environment: Environment,
        keep_task: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        self._queue = queue
        self._environment = environment
        self._keep_task = keep_task
        self._runners: dict[str, dict[str, _Runner]] = {}
        self._serving: dict[Channel, dict[_Runner, None]] = {}

    async def attach(self, channel: Channel, queue: str, consumer: str) -> None:
        """Deliver a consumer's messages to a socket; it is served before those that came earlier."""
        store = self._queue(queue)
        await store.add_consumer(consumer)
        if channel.left_because is not None:
            raise NotConnected(channel.sid, channel.namespace.name, f"consume {queue!r}")
        runners = self._runners.setdefault(queue, {})
        runner = runners.get(consumer)
        if runner is None:
            runner = runners[consumer] = _Runner(store, consumer, self._environment)
            self._keep_task(asyncio.get_running_loop().create_task(self._run(runner, queue, consumer)))
        runner.attach(channel)
        self._serving.setdefault(channel, {})[runner] = None

    def detach(self, channel: Channel) -> None:
        """Take a socket away from all its consumers; what it had in hand is delivered again."""
        for runner in self._serving.pop(channel, ()):
            runner.detach(channel)

    def announce(self, queue: str) -> None:
        """Tell a queue's consumers that there is a new message."""
        for runner in self._runners.get(queue, {}).values():
            runner.arrived.set()

    async def _run(self, runner: _Runner, queue: str, consumer: str) -> None:
        try:
            await runner.run()
        finally:
            runners = self._runners[queue]
            del runners[consumer]
            if not runners:
                del self._runners[queue]


class _Runner:
    """One consumer's messages, to whichever of its sockets came last."""

    def __init__(self, queue: Queue, consumer: str, environment: Environment) -> None:
        self.arrived = asyncio.Event()
        self._queue = queue
        self._consumer = consumer
        self._epoch = 0
        self._environment = environment
        self._sockets: dict[Channel, None] = {}
        self._sockets_changed = asyncio.Event()
        self._acknowledged: list[int] = []
        self._settling: asyncio.Task[None] | None = None

    def attach(self, channel: Channel) -> None:
        self._sockets.pop(channel, None)
        self._sockets[channel] = None
        self._sockets_changed.set()

    def detach(self, channel: Channel) -> None:
        if channel in self._sockets:
            del self._sockets[channel]
            self._sockets_changed.set()
            self.arrived.set()

    @property
    def _active(self) -> Channel | None:
        return next(reversed(self._sockets), None)

    async def run(self) -> None:
        """Deliver until no socket is left and all that was acknowledged is settled."""
        failures = 0
        while self._sockets:
            try:
                await self._deliver_all()
                failures = 0
            except StorageError as problem:
                failures += 1
                delay_s = self._backoff_s(failures)
                logger.error(
                    "queue %r: delivery to %r halts for %.1f s: %s",
                    self._queue.name, self._consumer, delay_s, problem,
                )  # fmt: skip
                await self._pause(delay_s)

    async def _deliver_all(self) -> None:
        while self._sockets:
            consumer = await self._queue.add_consumer(self._consumer)
            self._epoch, position = consumer.epoch, consumer.cursor
            while self._sockets:
                self.arrived.clear()
                messages = await self._queue.fetch(
                    self._consumer, after=position, max_messages=_FETCH_MESSAGES, max_bytes=_FETCH_BYTES
                )
                if not messages:
                    await self.arrived.wait()
                for message in messages:
                    if not await self._deliver(message):
                        break
                    position = message.position
                    self._settle(position)
            if self._settling is not None:
                await self._settling

    async def _deliver(self, message: Message) -> bool:
        """Offer a message until it is acknowledged; ``False`` if no socket is left to offer it to."""
        rejections = lost = 0
        while (channel := self._active) is not None:
            outcome, answer = await self._offer(channel, message)
            if outcome is _Outcome.ACKNOWLEDGED:
                return True
            if outcome is _Outcome.LOST:
                lost += 1
                now = self._environment.wall_time()
                attempt = Attempt(message.position, message.failures, message.losses + lost, "lost", "gone", now)
                await self._queue.retry(self._consumer, self._epoch, [attempt])
            else:
                rejections += 1
                delay_s = self._retry_delay_s(answer, rejections)
                logger.info(
                    "queue %r, message %d: rejected by %s (%s), again in %.1f s",
                    self._queue.name, message.position, channel.sid, answer.get("nack"), delay_s,
                )  # fmt: skip
                await self._pause(delay_s)
        return False

    async def _offer(self, channel: Channel, message: Message) -> tuple[_Outcome, dict[str, Any]]:
        event = channel.codec.restore_event(message.record, channel.namespace.name)
        ack_id, future = channel.send_expecting_ack(event, survives=False)
        try:
            while not future.done() and self._active is channel:
                self._sockets_changed.clear()
                changed = asyncio.ensure_future(self._sockets_changed.wait())
                waiting: set[asyncio.Future[Any]] = {future, changed}
                try:
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
        finally:
            channel.acks.forget(ack_id)
        arguments = future.result() if future.done() else None
        if arguments is None:
            return _Outcome.LOST, {}
        if len(arguments) == 1 and isinstance(arguments[0], dict) and arguments[0].get("nack"):
            return _Outcome.REJECTED, arguments[0]
        return _Outcome.ACKNOWLEDGED, {}

    def _retry_delay_s(self, answer: dict[str, Any], rejections: int) -> float:
        wanted = answer.get("retry_in")
        if isinstance(wanted, int | float) and not isinstance(wanted, bool) and wanted >= 0:
            return min(float(wanted), _LAST_RETRY_S)
        return self._backoff_s(rejections)

    def _backoff_s(self, failures: int) -> float:
        delay_s = min(_FIRST_RETRY_S * 2.0 ** min(failures - 1, 16), _LAST_RETRY_S)
        return delay_s * (1 + _RETRY_JITTER * (2 * self._environment.random() - 1))

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than there is a socket."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while self._sockets and loop.time() < until:
            self._sockets_changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._sockets_changed.wait()
            except TimeoutError:
                return

    def _settle(self, position: int) -> None:
        """Have an acknowledged message settled, together with what gathers while the store is busy."""
        self._acknowledged.append(position)
        if self._settling is None or self._settling.done():
            self._settling = asyncio.get_running_loop().create_task(self._settle_gathered())

    async def _settle_gathered(self) -> None:
        failures = 0
        while self._acknowledged:
            positions, self._acknowledged = self._acknowledged, []
            try:
                await self._queue.settle(self._consumer, self._epoch, positions)
                failures = 0
            except StoreClosed:
                return
            except StorageError as problem:
                self._acknowledged = positions + self._acknowledged
                failures += 1
                logger.error(
                    "queue %r: acks of %r up to %d are not stored yet: %s",
                    self._queue.name, self._consumer, positions[-1], problem,
                )  # fmt: skip
                await asyncio.sleep(self._backoff_s(failures))
