"""The verdict: it must find what is missing, doubled, out of order or invented, or the demo proves nothing."""

from __future__ import annotations

import io

from waypost.demo.headless import _conclude
from waypost.demo.ledger import Announcement, Ledger
from waypost.demo.terminal import Terminal


def ledger(*parcels: str) -> Ledger:
    """Return one in which the shop sent these parcels, each with one attempt, and nothing has arrived."""
    sent = [Announcement(parcel, 1) for parcel in parcels]
    return Ledger(asked=list(sent), accepted=list(sent))


def arrived(*parcels: str) -> list[Announcement]:
    return [Announcement(parcel, 1) for parcel in parcels]


def test_everything_arrived() -> None:
    book = ledger("a", "b")
    book.handled, book.announced = ["a", "b"], arrived("a", "b")
    assert book.complete
    assert book.queue().faults == book.board().faults == []


def test_missing() -> None:
    book = ledger("a", "b")
    book.handled, book.announced = ["b"], arrived("a")
    assert not book.complete
    assert book.queue().faults == ["queue: a is missing"]
    assert book.board().faults == ["board: b (attempt 1) is missing"]


def test_doubled() -> None:
    book = ledger("a", "b")
    book.handled, book.announced = ["a", "b", "b"], arrived("a", "a", "b")
    assert book.queue().faults == ["queue: b arrived more than once"]
    assert book.board().faults == ["board: a (attempt 1) arrived more than once"]


def test_out_of_order() -> None:
    book = ledger("a", "b", "c")
    book.handled, book.announced = ["a", "c", "b"], arrived("b", "a", "c")
    assert book.queue().faults == ["queue: c arrived out of order"]
    assert book.board().faults == ["board: b (attempt 1) arrived out of order"]


def test_never_sent() -> None:
    book = ledger("a")
    book.handled, book.announced = ["a", "x"], [*arrived("a"), Announcement("a", 2)]
    assert book.queue().faults == ["queue: x arrived and was never sent"]
    assert book.board().faults == ["board: a (attempt 2) arrived and was never sent"]


def test_a_redelivery_is_recognised_and_no_fault() -> None:
    book = ledger("a")
    assert book.deliver("a")
    assert not book.deliver("a")
    assert book.redelivered == 1
    assert book.queue().faults == []


def test_an_attempt_without_an_answer_may_be_announced_or_not() -> None:
    book = ledger("a", "b")
    book.asked.insert(1, Announcement("a", 2))
    book.accepted[0] = Announcement("a", 2)
    book.handled = ["a", "b"]
    book.announced = [Announcement("a", 2), *arrived("b")]
    assert book.board().faults == []
    book.announced = [Announcement("a", 1), Announcement("a", 2), *arrived("b")]
    assert book.board().faults == []
    book.announced = [Announcement("a", 1), *arrived("b")]
    assert book.board().faults == ["board: a (attempt 2) is missing"]


def test_the_exit_code_follows_the_verdict() -> None:
    text = io.StringIO()
    book = ledger("a", "b")
    book.handled, book.announced = ["a"], arrived("a", "b")
    assert _conclude(Terminal(text), book, []) == 1
    assert "queue: b is missing" in text.getvalue()
    book.handled.append("b")
    assert _conclude(Terminal(text), book, ["the story did not end"]) == 1
    assert _conclude(Terminal(text), book, []) == 0
