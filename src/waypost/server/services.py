"""What all parts of a server share: the hub makes it once, and hands it to each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from waypost.protocol.codec import Codec
from waypost.server.basics.environment import Environment
from waypost.server.basics.write_turn import WriteTurn
from waypost.server.calling.runners import Runners
from waypost.server.cluster.seam import Others
from waypost.server.watching.counters import Counters
from waypost.server.watching.hooks import Hooks
from waypost.storage.base import Store

__all__ = ["Services"]


@dataclass(slots=True)
class Services:
    """What all parts of a server share.

    Options are not among it: each part is handed the values it needs.

    Attributes:
        codec: Writes and reads packets.
        environment: Chance and wall time.
        hooks: The observers of what happens.
        counters: The numbers of what has happened so far.
        threads: The threads in which ``def`` handlers run.
        turn: Gathers what is written until the end of the event loop's turn.
        keep_task: Holds on to a task until it is done; the server waits for the task when it stops.
        runners: The tasks in which handlers run.
        store: The store. Read it anew each time: `waypost.Server.use_store` replaces it before the start.
        others: The other servers of a cluster.
    """

    codec: Codec
    environment: Environment
    hooks: Hooks
    counters: Counters
    threads: Executor
    turn: WriteTurn
    keep_task: Callable[[asyncio.Task[Any]], None]
    runners: Runners
    store: Store
    others: Others
