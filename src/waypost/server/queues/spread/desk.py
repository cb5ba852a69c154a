"""The part of a server that has what serves each consumer, as `Owners` uses it."""

from __future__ import annotations

from typing import Protocol

from waypost.server.emitting.members import Member
from waypost.server.queues.load import Load
from waypost.server.queues.options import Order
from waypost.server.queues.runner import Runner
from waypost.server.queues.serving import Serving
from waypost.server.queues.spread.branch import Branch
from waypost.server.queues.spread.letters import Changed
from waypost.server.queues.spread.post import Key

__all__ = ["Desk"]


class Desk(Protocol):
    """The part of a server that has what serves each consumer."""

    @property
    def is_stopping(self) -> bool:
        """True from the beginning of a stop."""
        ...

    def find(self, queue: str, consumer: str) -> Serving | None:
        """Return what serves a consumer on this node."""
        ...

    async def open_runner(self, key: Key, order: Order | None) -> Runner:
        """Make the runner of a consumer, which nothing else knows yet.

        Raises:
            StorageError: The store did not answer.
        """
        ...

    async def open_branch(self, key: Key, order: Order | None) -> Branch:
        """Make the branch of a consumer that another node owns, which nothing else knows yet.

        Raises:
            StorageError: The store did not answer.
        """
        ...

    def branch_of(self, runner: Runner) -> Branch:
        """Make a branch that stands in for a runner of this node, and which nothing else knows yet."""
        ...

    def put(self, serving: Serving, former: Serving | None) -> None:
        """Let something serve a consumer, in the place of what served it before."""
        ...

    def went_live(self, member: Member) -> None:
        """Put into the hand of a socket that is live what its session holds."""
        ...

    def began(self, runner: Runner) -> None:
        """Note that a runner has what is attached to it."""
        ...

    def apply(self, queue: str, change: Changed) -> None:
        """Apply what another node has changed."""
        ...

    def loads(self, queues: tuple[str, ...]) -> list[Load]:
        """Return the numbers of the consumers that this node owns."""
        ...
