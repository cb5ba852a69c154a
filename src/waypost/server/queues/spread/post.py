"""Sends messages about queues to other nodes."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeAlias

from waypost.errors import StorageError, StoreClosed
from waypost.logs import fields, get_logger
from waypost.server.queues.spread.letters import TOPIC, Body, Letter, encode
from waypost.storage.following import EVERYBODY, Nodes

__all__ = ["Key", "Post", "guarded"]

logger = get_logger("waypost.queue")

Key: TypeAlias = tuple[str, str]
"""The names of a queue and of a consumer."""


class Post:
    """Sends what one node has to say of queues; see `Nodes.send`.

    Args:
        nodes: The nodes.

    Attributes:
        nodes: The nodes.
    """

    __slots__ = ("nodes",)

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    def send(self, node: str, key: Key, body: Body) -> None:
        """Send a message about a consumer to a node."""
        self._send(node, Letter(*key, body))

    def send_to_all(self, key: Key, body: Body) -> None:
        """Send a message about a consumer, or about a queue, to all nodes."""
        self._send(EVERYBODY, Letter(*key, body))

    def _send(self, receiver: str | None, letter: Letter) -> None:
        # Without a store there is no other node: for these, this one is gone.
        with suppress(StorageError):
            self.nodes.send(receiver, TOPIC, encode(letter))


async def guarded(key: Key, work: Coroutine[Any, Any, None]) -> None:
    """Do something about a consumer that other nodes learn of, and log it if the store fails. May be cancelled."""
    try:
        await work
    except StoreClosed:
        # For the others this node is gone.
        return
    except StorageError as problem:
        logger.error(
            "queue %r, consumer %r: no other node learns of it: %s",
            *key,
            problem,
            extra=fields(queue=key[0], consumer=key[1]),
        )
