"""Runs a history from its first step to the last check."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol
from unittest.mock import patch

from tests.sim.actions import Actions, ServerActions
from tests.sim.clock import Stuck, VirtualLoop
from tests.sim.history import History, make_history
from tests.sim.oracle import check_ghosts, check_live, check_told
from tests.sim.standstill import small_limits, stand_still
from tests.sim.trace import Trace
from tests.sim.world import World
from waypost.storage.clock import LONGEST_SLEEP_S
from waypost.transports import succession

__all__ = ["Result", "play_out", "run", "run_seed"]

_SETTLE_EVERY_S = 5.0
_SETTLE_ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a history.

    Attributes:
        history: The history.
        problems: What was wrong; empty if nothing.
        trace: What happened.
        virtual_s: How much virtual time passed.
    """

    history: History
    problems: list[str]
    trace: Trace
    virtual_s: float

    def report(self, last: int | None = None) -> str:
        """Write it all out."""
        return "\n".join(
            (
                f"seed {self.history.seed}; to reproduce: python -m tests.sim --of {self.history.kind}"
                f" --seed {self.history.seed}",
                str(self.history.circumstances),
                *map(str, self.history.steps),
                "---",
                self.trace.text(last),
                "---",
                *self.problems,
            )
        )


class Played(Protocol):
    """A world, whatever servers there are in it."""

    history: History
    loop: VirtualLoop
    trace: Trace
    problems: list[str]

    def wrong(self, problem: str) -> None:
        """Note that something happened that must never happen."""
        ...


def run_seed(seed: int, make: Callable[[int], History] = make_history) -> Result:
    """Run the history of a seed."""
    return run(make(seed))


def run(history: History) -> Result:
    """Run a history."""
    world = World(history, VirtualLoop())
    if history.circumstances.queue is not None:
        world.loop.when_at_rest(lambda: _look_at_rest(world))
    return play_out(world, _play(world))


def play_out(world: Played, play: Coroutine[Any, Any, None]) -> Result:
    """Play a history to its end, and bury what is left.

    Args:
        world: The world.
        play: All that happens in it.
    """
    loop = world.loop
    watching = _Watch(world)
    logger = logging.getLogger("waypost")
    level, propagates, asyncio_level = logger.level, logger.propagate, logging.getLogger("asyncio").level
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(watching)
    collects = gc.isenabled()
    gc.disable()
    try:
        # A server would look for others on the machine in a thread, which knows no virtual time.
        with small_limits(), patch.object(succession, "can_tell", bool):
            loop.run_until_complete(play)
    except Stuck as problem:
        world.wrong(str(problem))
    finally:
        loop.when_at_rest(lambda: None)
        logger.removeHandler(watching)
        logger.setLevel(logging.CRITICAL + 1)
        loop.set_exception_handler(lambda _loop, _context: None)
        loop.run_until_complete(_bury(loop))
        logger.setLevel(level)
        logger.propagate = propagates
        logging.getLogger("asyncio").setLevel(asyncio_level)
        loop.close()
        if collects:
            gc.enable()
    return Result(world.history, world.problems, world.trace, loop.time())


async def _play(world: World) -> None:
    actions = Actions(world, ServerActions(world))
    world.start()
    for step in world.history.steps:
        world.later(step.at, actions.do, step)
    last = world.history.steps[-1].at if world.history.steps else 0.0
    await asyncio.sleep(last + 1.0)
    world.heal()
    # As long as a client may take a dead connection for alive.
    await asyncio.sleep(world.circumstances.ping_interval_s + world.circumstances.ping_timeout_s)
    for _ in range(_SETTLE_ROUNDS):
        await asyncio.sleep(_SETTLE_EVERY_S)
        if _is_settled(world):
            # A client that is cut meanwhile has a replay before it again.
            await asyncio.sleep(2 * _SETTLE_EVERY_S)
            if _is_settled(world):
                break
    else:
        world.wrong("it does not settle: " + _unsettled(world))
    check_told(world)
    check_live(world)
    for socket in world.client_sockets:
        socket.disconnect()
    await asyncio.sleep(100.0)
    check_ghosts(world)
    world.problems += world.loop.unheard() + world.loop.problems


def _look_at_rest(world: World) -> None:
    if world.process is not None:
        was_set = world.time() - world.clock_set_at < LONGEST_SLEEP_S
        for problem in stand_still(world.process.hub, clock_was_set=was_set):
            world.wrong(problem)


async def _bury(loop: VirtualLoop) -> None:
    loop.bury()


def _is_settled(world: World) -> bool:
    return not _unsettled(world)


def _unsettled(world: World) -> str:
    if world.process is None or world.process.is_stopping:
        return "there is no server"
    away = [socket.label for socket in world.client_sockets if not socket.connected]
    if away:
        return f"away: {away}"
    directory = world.process.hub.directory
    for namespace in ("/", "/n"):
        for channel in directory.core(namespace).ownership._owners.values():
            if not channel.out.is_live:
                return f"{channel.sid} is being sent what it has missed"
    backlogs = world.disk.store._queues.backlogs
    consumers = set(world.circumstances.consumes.values())
    for queue, consumer in sorted(consumers):
        backlog = backlogs.get(queue)
        found = None if backlog is None else backlog.consumers.get(consumer)
        if backlog is not None and found is not None and backlog.consumer_info(found).waiting:
            return f"queue {queue} waits for {consumer}"
        if backlog is not None and backlog.scheduled:
            return f"queue {queue} has messages that are not due"
    return ""


class _Watch(logging.Handler):
    """Takes down what the server logs as its own fault."""

    def __init__(self, world: Played) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._world.wrong(f"the server logged {record.getMessage()!r}: {record.exc_info[1]!r}")
        else:
            self._world.trace.note("log: {}", record.getMessage())
