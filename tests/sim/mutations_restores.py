"""Ways to break the recognition of older copies on purpose: histories of a store's file must show each of them."""

from __future__ import annotations

import pytest

from tests.sim.mutations import Mutate
from waypost.storage.sqlite import openings
from waypost.storage.sqlite.journals import sessions

__all__ = ["RESTORE_MUTATIONS"]


def believe_any_file(patch: pytest.MonkeyPatch) -> None:
    """Take each file for the one that was here."""
    patch.setattr(openings, "_doubt", lambda *given: "")


def believe_what_a_crash_left(patch: pytest.MonkeyPatch) -> None:
    """Look at the counts only, and not at the log that a kill leaves."""
    patch.setattr(openings, "_doubt_after_crash", lambda *given: "")


def doubt_each_file(patch: pytest.MonkeyPatch) -> None:
    """Let all start anew at each opening."""
    patch.setattr(openings, "_doubt", lambda *given: "may be anything")


def keep_sessions_of_a_copy(patch: pytest.MonkeyPatch) -> None:
    """Recognise an older copy, and let its sessions go on."""
    patch.setattr(sessions, "forget_all", lambda *given: None)


RESTORE_MUTATIONS: tuple[Mutate, ...] = (
    believe_any_file,
    believe_what_a_crash_left,
    doubt_each_file,
    keep_sessions_of_a_copy,
)
