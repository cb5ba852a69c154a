"""What is known of a statement, and a call as a step."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final

from tests.storage.postgres.trace.engine import DROPPED, Engine
from tests.storage.postgres.trace.recorder import Call, Refused

__all__ = ["Known", "Step"]

Play = Callable[[Engine, tuple[Any, ...], Any], Any]

_NODE_AT: Final = {
    "open_journal_1": 2, "append_1": 1, "write_1": 1, "settle_1": 1, "claim_consumer_1": 0, "release_consumer_1": 0,
    "declare_1": 0, "queue_write_1": 1, "queue_changes_1": 1, "queue_settle_1": 1, "holds_note_1": 0,
    "keep_answers_1": 0, "settle_answers_1": 0,
}  # fmt: skip
"""Where the arguments of a writing function have the node that must be alive."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a statement.

    Attributes:
        play: Plays it on an engine, given the arguments and what came; returns what should have come.
        read: Makes what `play` returns of what the driver returned.
        writes: Whether it may change something.
        is_idle: Whether an answer says that nothing was done: such a call saw some moment while it ran.
        agrees: Whether what should have come is what came.
        subject: What a read is about: two reads of one subject see it in the order of the reads.
    """

    play: Play
    read: Callable[[Any], Any] = lambda came: came
    writes: bool = True
    is_idle: Callable[[Any], bool] = lambda _: False
    agrees: Callable[[Any, Any], bool] = operator.eq
    subject: Callable[[tuple[Any, ...]], Hashable] = lambda _: None


@dataclass(slots=True, eq=False)
class Step:
    """A call as a step.

    Attributes:
        call: The call.
        known: What is known of its statement.
        came: What came, as ``known.play`` returns it; a refusal as it is, ``None`` if it was lost.
    """

    call: Call
    known: Known
    came: Any = None

    @property
    def is_refused(self) -> bool:
        """Whether the engine said no."""
        return isinstance(self.came, Refused)

    @property
    def subject(self) -> Hashable:
        """What it saw, in the words of `Engine.touched`; ``None`` if that is more than one thing."""
        if not self.known.writes:
            return self.known.subject(self.call.arguments)
        if self.is_refused and self.came.sqlstate == DROPPED:
            return "journal", self.call.arguments[0]
        return None if self.node is None else ("node", self.node)

    @property
    def node(self) -> int | None:
        """The number of the node that writes; ``None`` where it is told no such thing."""
        place = _NODE_AT.get(self.call.function)
        return None if place is None else self.call.arguments[place]
