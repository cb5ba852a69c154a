"""Shops, clerks and drivers with official clients, over lines that fail, on a server that is killed.

Every parcel that was accepted is handled, each driver's in the order of acceptance, and none twice unless its ack can
have been lost. `tests/interop/parcels` tells how; ``python -m tests.interop.parcels --rounds 30`` plays more stories.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.interop.parcels.cast import PARCELS_OF_A_SHOP
from tests.interop.parcels.logbook import Logbook
from tests.interop.parcels.story import play
from tests.interop.peer import Peer


@pytest.mark.long
@pytest.mark.node
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(150)
async def test_every_parcel_is_handled_whatever_happens(peer: Peer, tmp_path: Path, rng: random.Random) -> None:
    outcome = await play(peer, tmp_path, rng)
    assert outcome.parcels > PARCELS_OF_A_SHOP


def logbook(*lines: str) -> Logbook:
    """Write a logbook of two parcels, a and b; a line is ``what phone [parcel or offset]``."""
    book = Logbook("Ada")
    for line in lines:
        what, phone, *more = line.split()
        offset = int(more[0]) if more and what == "proved" else 0
        book.note(what, "".join(more) if what != "proved" else "", phone, offset)  # type: ignore[arg-type]
    book.place("a", 1)
    book.place("b", 2)
    return book


BOTH = ("up x", "got x a", "done x a", "got x b", "done x b")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (("up x", "got x a", "done x a"), "in another order"),
        (("up x", "got x b", "done x b", "got x a", "done x a"), "in another order"),
        (("up x", "got x a", "got x a", "done x a", "got x b", "done x b"), "connection was whole"),
        ((*BOTH, "down x", "up x", "got x a"), "its ack had arrived"),
        ((*BOTH, "proved - 1", "killed -", "up x", "got x a"), "its ack was on disk"),
        ((*BOTH, "killed -", "killed -", "up x", "got x a", "up y", "got y b", "got y b"), "connection was whole"),
    ],
    ids=["missing", "order", "repeat", "settled", "on disk", "twice"],
)
def test_what_must_not_happen_is_noticed(lines: tuple[str, ...], problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        logbook(*lines).check()


@pytest.mark.parametrize(
    "lines",
    [
        BOTH,
        ("up x", "got x a", "refused x a", *BOTH[1:]),
        ("up x", "got x a", "down x", *BOTH),
        ("up x", "got x a", "up y", "got y a", "done y a", "got y b", "done y b"),
        ("up x", "up y", "got x a", "got y a", "done y a", "got y b", "done y b"),
        ("up x", "up y", "got y a", "done y a", "got y b", "got x a", "done y b"),
        ("up x", "got x a", "up y", "got y a", "done y a", "got y b", "got x b", "done y b"),
        (*BOTH, "killed -", "up x", "got x a", "got x b"),
    ],
    ids=["once", "refused", "cut", "taken over", "crossed", "late", "late too", "killed"],
)
def test_what_may_happen_is_no_alarm(lines: tuple[str, ...]) -> None:
    logbook(*lines).check()
