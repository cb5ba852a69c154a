"""The type that the caller of an event names for its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from waypost.errors import AnswerMismatch
from waypost.typed.conversion import MISFITS, check_convertible, convert, show

__all__ = ["AnswerType"]


@dataclass(frozen=True, slots=True)
class AnswerType:
    """The type of a call's answer; make one with `read`.

    Attributes:
        event: The event's name, for errors.
        annotation: The type; ``None`` if the answer is taken as it comes.
    """

    event: str
    annotation: Any

    @classmethod
    def read(cls, event: str, returns: Any) -> AnswerType:
        """Read the argument ``returns`` of a call; raises `ConfigurationError` if no value can be converted to it."""
        if returns is not None:
            check_convertible("returns", returns)
        return cls(event, returns)

    def convert(self, answer: Any) -> Any:
        """Convert an answer; raises `AnswerMismatch` if it does not fit."""
        if self.annotation is None:
            return answer
        try:
            return convert(answer, self.annotation)
        except MISFITS as error:
            raise AnswerMismatch(self.event, show(self.annotation), answer, str(error)) from error
