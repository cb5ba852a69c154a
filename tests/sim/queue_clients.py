"""What clients do with a queue's messages: acknowledge, reject, wait, or forget to answer."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from tests.sim.client import ClientSocket
from tests.sim.history import QueuePlan

__all__ = ["QueueClients"]


class World(Protocol):
    """What they need of the world."""

    is_healed: bool

    def time(self) -> float:
        """Return the time."""
        ...

    def after(self, seconds: float, callback: Callable[..., object], *args: object) -> Any:
        """Call something after a while."""
        ...


class QueueClients:
    """All clients' handlers of messages.

    Args:
        world: The world.
        chance: What decides.
    """

    def __init__(self, world: World, chance: Random) -> None:
        self._away_until = 0.0
        self._is_silent = False
        self._world = world
        self._chance = chance

    def be_away(self, until: float, *, is_silent: bool) -> None:
        """Let what they all depend on be away until a time: they answer no message, or reject each."""
        self._away_until = until
        self._is_silent = is_silent

    def take(self, socket: ClientSocket, ack_id: int, plan: QueuePlan) -> None:
        """Handle a message."""
        chance = self._chance.random()
        if self._world.is_healed:
            socket.acknowledge(ack_id, "ok")
        elif self._world.time() < self._away_until:
            if not self._is_silent:
                socket.acknowledge(ack_id, {"nack": "the dependency is away"})
        elif chance < plan.silence:
            return
        elif chance < plan.silence + plan.rejects:
            pause = {} if self._chance.random() < 0.5 else {"retry_in": self._chance.choice((0, 0.5, 3.0))}
            self._answer(socket, ack_id, {"nack": "not now", **pause})
        else:
            self._answer(socket, ack_id, "ok")

    def _answer(self, socket: ClientSocket, ack_id: int, argument: object) -> None:
        if self._chance.random() < 0.6:
            socket.acknowledge(ack_id, argument)
        else:
            self._world.after(self._chance.random() * 4, socket.acknowledge, ack_id, argument)
