"""Warns of clients whose acknowledgements of a queue's messages do not mean that a handler has run."""

from __future__ import annotations

from collections.abc import Mapping

from waypost.errors import shorten
from waypost.logs import fields, get_logger
from waypost.protocol.known_clients import find_client

__all__ = ["Caveats"]

logger = get_logger("waypost.queues")

_MOST = 100
"""Queues may be as many as users; nobody reads more warnings of the same kind."""


class Caveats:
    """Logs one warning for each consumer that such a client attaches to, and at most a hundred."""

    __slots__ = ("_warned",)

    def __init__(self) -> None:
        self._warned: set[tuple[str, str]] = set()

    def look_at(self, query: Mapping[str, str], headers: Mapping[str, str], queue: str, consumer: str) -> None:
        """Warn of a client that attaches to a consumer, if there is a reason.

        Args:
            query: The query of the client's handshake.
            headers: Its headers.
            queue: The queue's name.
            consumer: The consumer's name.
        """
        client = find_client(query, headers)
        if client is None or not client.queue_caveat:
            return
        if (queue, consumer) in self._warned or len(self._warned) >= _MOST:
            return
        self._warned.add((queue, consumer))
        logger.warning(
            'a client of %s consumes queue %s as %s: it %s (docs/queues.md, "Which clients")',
            client.name,
            shorten(queue),
            shorten(consumer),
            client.queue_caveat,
            extra=fields(queue=queue, consumer=consumer),
        )
