"""Histories that are about a queue; and the mistakes in queues that they are there to find."""

from __future__ import annotations

import gc
import os

import pytest

from tests.sim.mutations import Mutate
from tests.sim.mutations_queues import QUEUE_MUTATIONS
from tests.sim.queue_history import make_queue_history
from tests.sim.simulation import run_seed

_HISTORIES = 60
_WITHIN = 500
# Seeds that found something once: what crashes had brought to its last delivery was sent again (2, 27), a key waited
# for a message that a limit had ended (162, 166), what had been lost meanwhile was never told (171), positions were
# read that had been read (121), a retry was forgotten that was stored late (261, 1300), a duplicate drove out
# another message (8309), nobody told who came while another was being told of a loss (7331), a message that was
# acknowledged late went out again, as it had been read before its ack was stored (1689), as did a dead letter
# (17264, 27172), and nobody told a consumer of what it had lost by age in a pause (16984, 24091). The oracle blamed
# the server for what it had decided before a connection was ended (29155), and for a loss of before a move (6971).
# The second ack that a client sent before its CONNECT was not heard with a prefetch of one (34709).
_REGRESSIONS = (
    *(2, 27, 121, 162, 166, 171, 217, 261, 1300, 1972, 8309, 7331, 1689),
    *(17264, 27172, 16984, 24091, 29155, 6971, 34709),
)
# Where those that few histories show were found last.
_TRIED_FIRST = {
    "blame_all": 28,
    "blame_the_newest": 267,
    "count_no_losses": 92,
    "let_nothing_expire": 22,
    "lose_what_was_in_hand": 9,
    "miss_what_was_stored_late": 383,
    "note_the_newest": 37,
    "read_wrongly_after_a_move": 19,
    "never_undeliverable": 393,
    "redrive_to_everyone": 42,
    "tell_of_the_first_loss_only": 109,
    "wait_for_who_is_gone": 162,
}


@pytest.mark.parametrize("seed", _REGRESSIONS)
def test_what_was_found_once(seed: int) -> None:
    result = run_seed(seed, make_queue_history)
    assert not result.problems, result.report()


@pytest.mark.long
def test_histories() -> None:
    # The same ones every time: it is for `make simulate` to look for new ones.
    first = int(os.environ.get("WAYPOST_TEST_SEED", "0"))
    for seed in range(first, first + _HISTORIES):
        result = run_seed(seed, make_queue_history)
        assert not result.problems, result.report()
        if seed % 50 == 0:
            gc.collect()


@pytest.mark.parametrize("mutate", QUEUE_MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_broken_queue_is_found(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    for seed in (_TRIED_FIRST.get(mutate.__name__, 0), *range(_WITHIN)):
        problems = run_seed(seed, make_queue_history).problems
        if problems:
            # A mistake that has rotted with the code that it breaks raises, which is no mistake of the server's.
            assert not any(name in problems[0] for name in ("TypeError", "AttributeError")), problems[0]
            return
    pytest.fail(f"{mutate.__name__} goes unnoticed in {_WITHIN} histories")
