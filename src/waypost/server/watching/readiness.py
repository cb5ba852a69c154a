"""Whether a server can serve new clients as it should, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from waypost.storage.trouble import Trouble

__all__ = ["Phase", "Readiness"]

Phase: TypeAlias = Literal["opening", "running", "draining", "stopped"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a server can serve new clients as it should, and if not, why.

    Attributes:
        phase: ``"opening"`` while the store is being opened; ``"running"``; ``"draining"`` from the beginning of a
            stop, or after another server has taken over the store; ``"stopped"`` before the start and after the stop.
        troubles: What keeps the store from taking all that it should.
    """

    phase: Phase
    troubles: tuple[Trouble, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Whether it can: it runs, and nothing is wrong with the store."""
        return self.phase == "running" and not self.troubles
