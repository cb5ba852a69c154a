"""The type of an answer, named by the caller of an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from waypost.errors import AnswerMismatch
from waypost.typed.conversion import MISFITS, check_convertible, convert, fault_of, show

__all__ = ["AnswerType"]


@dataclass(frozen=True, slots=True)
class AnswerType:
    """The type of a call's answer; made by `read`.

    Attributes:
        event: The event's name, for errors.
        annotation: The type; ``None`` leaves the answer unchanged.
    """

    event: str
    annotation: Any

    @classmethod
    def read(cls, event: str, returns: Any) -> AnswerType:
        """Read the argument ``returns`` of a call.

        Raises:
            ConfigurationError: No value can be converted to the type.
        """
        if returns is not None:
            check_convertible("returns", returns)
        return cls(event, returns)

    def convert(self, answer: Any) -> Any:
        """Convert an answer.

        Raises:
            AnswerMismatch: The answer does not fit the type.
        """
        if self.annotation is None:
            return answer
        try:
            return convert(answer, self.annotation)
        except MISFITS as error:
            # Without its cause, which may quote the answer: a log of this error then contains no secret.
            raise AnswerMismatch(
                self.event, show(self.annotation), answer, str(error), fault=fault_of(error)
            ) from None
