"""Schedules: messages that are put into a queue at certain times of day, again and again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from waypost.checking.rules import rule_of
from waypost.errors import ConfigurationError
from waypost.logs import fields, get_logger
from waypost.server.queues.cron import Cron
from waypost.server.queues.deliveries import Deliveries
from waypost.server.queues.message import NewMessage, to_row
from waypost.server.queues.work_loop import WorkLoop
from waypost.server.services import Services
from waypost.storage.clock import LONGEST_SLEEP_S
from waypost.storage.queue_records import NewMessageRow

__all__ = ["MISSED", "Missed", "SchedulePlan", "Schedules"]

logger = get_logger("waypost.queue")

Missed = Literal["skip", "once"]
"""What becomes of times that passed while no server ran: none of them counts, or the last one does."""

MISSED = rule_of(Missed)

_LATE_S = 60.0
"""A time that passed so long ago is not missed yet: a restart, or a store that is busy, takes some seconds."""
_DAY_S = 24 * 3600.0


@dataclass(frozen=True, slots=True, eq=False)
class SchedulePlan:
    """The arguments of `Server.schedule`.

    Attributes:
        name: The schedule's name.
        cron: Its times.
        queue: The queue's name.
        message: The message, whose id is made for each time.
        missed: What becomes of times that passed while no server ran.
    """

    name: str
    cron: Cron
    queue: str
    message: NewMessage
    missed: Missed


class Schedules:
    """All schedules of a server.

    Args:
        services: What the server's parts share.
        deliveries: Hands the messages to the consumers that are served.
    """

    def __init__(self, services: Services, deliveries: Deliveries) -> None:
        self._services = services
        self._deliveries = deliveries
        self._plans: dict[str, SchedulePlan] = {}
        self._running: list[_Schedule] = []
        self._is_started = False

    def add(self, plan: SchedulePlan) -> None:
        """Add a schedule, which begins as soon as the store is open.

        Raises:
            ConfigurationError: There is one with that name.
            EncodingFailed: The message can't be encoded.
        """
        if plan.name in self._plans:
            raise ConfigurationError("name", plan.name, "the name of one schedule; there is one with this name")
        schedule = _Schedule(plan, self._services, self._deliveries)
        self._plans[plan.name] = plan
        self._running.append(schedule)
        if self._is_started:
            schedule.start()

    def start(self) -> None:
        """Begin with an open store."""
        self._is_started = True
        for schedule in self._running:
            schedule.start()

    def stop(self) -> None:
        """Put no more messages into queues."""
        self._is_started = False
        for schedule in self._running:
            schedule.stop()


class _Schedule:
    """One schedule and its timer.

    The id of a message names its minute, and the queue accepts it once until well after the next one. So several
    servers of one store, or one that is killed before it has noted the time, give one message.
    """

    def __init__(self, plan: SchedulePlan, services: Services, deliveries: Deliveries) -> None:
        self._plan = plan
        self._services = services
        self._deliveries = deliveries
        self._row = to_row(plan.message, services.codec, deliveries.message_ids)
        self._last_at: float | None = None
        # Made at the start, as it belongs to an event loop.
        self._work: WorkLoop | None = None

    def start(self) -> None:
        self._last_at = None
        self._work = WorkLoop(self._look, self._halted, self._services.keep_task)
        self._work.wake()

    def stop(self) -> None:
        if self._work is not None:
            self._work.stop()

    async def _look(self) -> None:
        """Put the message of the last time into the queue, unless that was done or it is missed."""
        now, cron = self._services.store.clock.wall(), self._plan.cron
        last_at = self._last_at if self._last_at is not None else await self._noted(now)
        due_at = cron.latest(now)
        if last_at > now + _LATE_S:
            logger.warning(
                "schedule %r: the clock was set back; it goes on from now",
                self._plan.name,
                extra=fields(schedule=self._plan.name),
            )
            await self._note(now if due_at is None else due_at)
        elif due_at is not None and due_at > last_at:
            await self._reach(due_at, now)
        assert self._work is not None
        self._work.wake_in(min(cron.next_after(now) - now, LONGEST_SLEEP_S))

    async def _reach(self, due_at: float, now: float) -> None:
        if now - due_at <= _LATE_S or self._plan.missed == "once":
            await self._emit(due_at)
        else:
            logger.warning(
                "schedule %r: missed %s, which is skipped",
                self._plan.name,
                _minute(due_at),
                extra=fields(schedule=self._plan.name),
            )
        await self._note(due_at)

    async def _emit(self, due_at: float) -> None:
        message: NewMessageRow = self._row._replace(id=f"{self._plan.name}@{_minute(due_at)}")
        await self._services.store.queue(self._plan.queue).enqueue(
            [message],
            deduplicate_s=self._plan.cron.next_after(due_at) - due_at + _DAY_S,
            on_commit=partial(self._deliveries.accepted, self._plan.queue, [message]),
        )

    async def _noted(self, now: float) -> float:
        """Return the last time that was noted. A schedule that the store does not know begins now."""
        noted = await self._services.store.schedule_noted(self._plan.name)
        if noted is None:
            await self._note(now)
            return now
        self._last_at = noted
        return noted

    async def _note(self, at: float) -> None:
        await self._services.store.note_schedule(self._plan.name, at)
        self._last_at = at

    def _halted(self, problem: Exception, pause_s: float) -> None:
        logger.error(
            "schedule %r: it has to wait %.1f s more: %s",
            self._plan.name,
            pause_s,
            problem,
            extra=fields(schedule=self._plan.name, seconds=pause_s),
        )


def _minute(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%MZ")
