"""The services that all parts of a server share. The hub makes them and passes them to each part."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from waypost.own_loop import OwnLoop
from waypost.protocol.codec import Codec
from waypost.server.basics.environment import Environment
from waypost.server.basics.write_turn import WriteTurn
from waypost.server.calling.runners import Runners
from waypost.server.cluster.bus import Bus
from waypost.server.cluster.seam import Others
from waypost.server.watching.counters import Counters
from waypost.server.watching.hooks import Hooks
from waypost.server.watching.queue_labels import QueueLabels
from waypost.storage.base import Store

__all__ = ["Services"]


@dataclass(slots=True)
class Services:
    """The services that all parts of a server share.

    They do not include the options: each part gets the values that it needs.

    Attributes:
        codec: The codec of packets.
        environment: Random numbers and wall time.
        hooks: The observers of the server.
        counters: The server's counters.
        queues: Those of the queues.
        threads: The threads that run ``def`` handlers.
        turn: Collects the writes of one iteration of the event loop.
        keep_task: Keeps a task until it is done; a stopping server waits for it.
        runners: The tasks that run handlers.
        store: The store. Read the attribute at each use: `waypost.Server.use_store` replaces the store before the
            start.
        others: The other servers of a cluster.
        own_loop: The event loop that the server runs on.
        bus: What this server tells all servers of a cluster; ``None`` for a server of one process.
    """

    codec: Codec
    environment: Environment
    hooks: Hooks
    counters: Counters
    queues: QueueLabels
    threads: Executor
    turn: WriteTurn
    keep_task: Callable[[asyncio.Task[Any]], None]
    runners: Runners
    store: Store
    others: Others
    own_loop: OwnLoop
    bus: Bus | None = None
