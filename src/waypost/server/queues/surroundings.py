"""What all that deliver a server's queues share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waypost.server.basics.environment import Environment
from waypost.storage.queue_records import Attempt, MessageRow

if TYPE_CHECKING:
    from waypost.server.queues.runner import Runner

__all__ = ["Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all runners of a server share.

    Attributes:
        environment: Chance and wall time.
        keep_task: Holds on to a task until it is done.
        buried: Told of each message that was given up, and its last attempt.
        lost: Told when what a consumer lost to the queue's limits has changed.
        idle: Told of a runner that has nothing attached any more, and everything stored.
    """

    environment: Environment
    keep_task: Callable[[asyncio.Task[Any]], None]
    buried: Callable[[Runner, MessageRow, Attempt], None]
    lost: Callable[[Runner], None]
    idle: Callable[[Runner], None]
