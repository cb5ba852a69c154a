"""Calls of functions that must not raise, and that harm nobody if they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from waypost.logs import get_logger

__all__ = ["report"]

_logger = get_logger(__name__)

_T = TypeVar("_T")


def report(on_commit: Callable[[_T], None], result: _T) -> None:
    """Call an ``on_commit``; an exception in it is logged, and affects no other call."""
    try:
        on_commit(result)
    except Exception:
        # The write is committed all the same, and the others must hear of theirs.
        _logger.exception("an on_commit raised, which it must not")
