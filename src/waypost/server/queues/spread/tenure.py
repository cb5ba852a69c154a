"""A consumer that this node owns, or is claiming, and what the other nodes say of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from waypost.logs import fields, get_logger
from waypost.server.queues.options import Order
from waypost.server.queues.spread.guests import Guests
from waypost.server.queues.spread.letters import Attach, FromGuest, Hands, Owns
from waypost.server.queues.spread.post import Key, Post

__all__ = ["Tenure"]

logger = get_logger("waypost.queue")

_HANDS_S = 5.0
"""For so long a new owner waits for what other nodes hold; a node that is gone is not waited for."""


@dataclass(slots=True, eq=False)
class Tenure:
    """One consumer.

    Attributes:
        lock: Held while its owner changes.
        users: How many hold the lock, or wait for it.
        is_owned: Whether this node owns the consumer.
        was_freed: Whether the consumer was without an owner since the claim.
        is_lost: Whether the store's host has taken the consumer from this node, which stood still, and the runner
            has not ended yet.
        successor: The node that has said meanwhile that it owns the consumer.
        rival: The node that owned the consumer at the last claim, if there was a branch for it already.
        guests: The takers of other nodes; ``None`` without a runner.
        backlog: What other nodes said while there was no runner; ``None`` if the node is gone.
        is_inheriting: Whether this node tries to serve the takers of others.
        hands: What other nodes hold, if this node has begun to own the consumer and has no runner yet.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    is_owned: bool = False
    was_freed: bool = False
    is_lost: bool = False
    successor: str | None = None
    rival: str | None = None
    guests: Guests | None = None
    backlog: list[tuple[str, FromGuest | None]] = field(default_factory=list)
    hands: dict[str, Hands] = field(default_factory=dict)
    is_inheriting: bool = False
    _missing: set[str] | None = None
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def awaits_runner(self) -> bool:
        """Whether this node owns the consumer, and others have said something to a runner that is not there yet."""
        return self.is_owned and self.guests is None and bool(self.backlog)

    @property
    def is_asking(self) -> bool:
        """Whether nodes are asked for what they hold, and have not all answered."""
        return self._missing is not None

    @property
    def order(self) -> Order | None:
        """The order in which the consumer was served, or else that in which other nodes want it; ``None`` for any."""
        served = [hands.order for hands in self.hands.values()]
        wanted = [body.order for _, body in self.backlog if isinstance(body, Attach)]
        return next((order for order in (*served, *wanted) if order is not None), None)

    async def ask_all(self, post: Post, key: Key) -> None:
        """Tell all nodes who owns the consumer, and ask them what their takers hold; the answers are `hands`."""
        self._missing, self.hands = set(post.nodes.others), {}
        self._answered.clear()
        post.send_to_all(key, Owns())
        try:
            if self._missing:
                async with asyncio.timeout(_HANDS_S):
                    await self._answered.wait()
        except TimeoutError:
            logger.warning(
                "queue %r, consumer %r: %s did not say what their sockets hold, which may be delivered twice",
                *key, ", ".join(sorted(self._missing)), extra=fields(queue=key[0], consumer=key[1]),
            )  # fmt: skip
        finally:
            self._missing = None

    def take_hands(self, node: str, hands: Hands) -> None:
        """Take a node's answer."""
        if hands.takers or hands.acknowledged:
            self.hands[node] = hands
        self._count(node)

    def gone(self, node: str) -> None:
        """Note that a node is gone. What it has said before counts."""
        self._count(node)
        if self.guests is not None:
            self.guests.gone(node)
        elif self.hands or self.backlog or self.is_asking:
            self.backlog.append((node, None))

    def _count(self, node: str) -> None:
        if self._missing is not None:
            self._missing.discard(node)
            if not self._missing:
                self._answered.set()
