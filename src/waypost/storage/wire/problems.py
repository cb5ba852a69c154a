"""Errors that pass over a link with all their data."""

from __future__ import annotations

from typing import Any, Final

from waypost import errors
from waypost.storage.answer_base import AnswerGivenUp
from waypost.storage.following import ClaimVoid
from waypost.storage.wire.reports import Problem

__all__ = ["from_problem", "to_problem"]

_KINDS: Final = {
    name: kind
    for name, kind in [*vars(errors).items(), (ClaimVoid.__name__, ClaimVoid)]
    if isinstance(kind, type) and issubclass(kind, errors.WaypostError)
}
_GIVEN_UP: Final = AnswerGivenUp.__name__


def to_problem(error: BaseException) -> Problem:
    """Return an error as a message; one that is not Waypost's only by its sentence."""
    if isinstance(error, errors.WaypostError):
        arguments: tuple[Any, ...] = error.args
        return Problem(type(error).__name__, [*arguments], dict(error.__dict__))
    if isinstance(error, AnswerGivenUp):
        return Problem(_GIVEN_UP, [], {})
    return Problem("", [f"{type(error).__name__}: {error}"], {})


def from_problem(problem: Problem, store: str) -> Exception:
    """Return the error that a message describes.

    Args:
        problem: The message.
        store: The store, as errors name it.
    """
    if problem.kind == _GIVEN_UP:
        return AnswerGivenUp()
    kind = _KINDS.get(problem.kind)
    if kind is None:
        return errors.StorageError(store, f"the process that has it could not do it: {problem.arguments[0]}")
    # The arguments of its constructor may be others, so it is made from its data.
    error = kind.__new__(kind, *problem.arguments)
    error.__dict__.update(problem.data)
    return error
