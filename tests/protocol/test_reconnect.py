"""The client's brain across connections: offsets, and what is still to be sent."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from waypost.protocol.reconnect import Continuity, SendBuffer

# ------------------------------------------------------------------------------------------ continuity

NOW_S = 1_796_000_000.0


def test_the_first_connect_carries_only_credentials() -> None:
    assert Continuity().request(None) is None
    assert Continuity().request({}) == {}
    assert Continuity().request({"token": "x"}) == {"token": "x"}


def test_pid_and_offset_are_sent_back() -> None:
    continuity = Continuity()
    assert continuity.accept("p1", always_offset=True) is False
    assert continuity.request({"token": "x"}) == {"pid": "p1", "token": "x"}
    assert continuity.take(["news", 1, "g.7"], NOW_S) == ["news", 1]
    assert continuity.request(None) == {"pid": "p1", "offset": "g.7"}
    assert continuity.accept("p1", always_offset=True) is True
    assert continuity.request(None) == {"pid": "p1", "offset": "g.7"}


def test_the_applications_keys_win() -> None:
    continuity = Continuity()
    continuity.accept("p1", always_offset=True)
    continuity.take(["x", "g.1"], NOW_S)
    assert continuity.request({"pid": "mine", "offset": 3}) == {"pid": "mine", "offset": 3}


def test_a_new_session_forgets_the_old_offset() -> None:
    continuity = Continuity()
    continuity.accept("p1", always_offset=True)
    continuity.take(["x", "g.1"], NOW_S)
    assert continuity.accept("p2", always_offset=True) is False
    assert continuity.request(None) == {"pid": "p2"}


def test_without_a_pid_nothing_is_an_offset() -> None:
    continuity = Continuity()
    assert continuity.accept(None, always_offset=True) is False
    assert continuity.take(["say", "hello"], NOW_S) == ["say", "hello"]
    assert continuity.request(None) is None


def test_a_server_that_lost_its_recovery_recovers_nothing() -> None:
    continuity = Continuity()
    continuity.accept("p1", always_offset=True)
    continuity.take(["x", "g.1"], NOW_S)
    assert continuity.accept(None, always_offset=True) is False
    assert continuity.request({}) == {}


@pytest.mark.parametrize(
    "data",
    [["x"], ["x", 1], ["x", "g.1", {}], ["x", b"g.1"]],
)
def test_what_is_no_offset_stays(data: list[Any]) -> None:
    continuity = Continuity()
    continuity.accept("p1", always_offset=True)
    assert continuity.take(list(data), NOW_S) == data
    assert continuity.offset is None


def test_forgetting_begins_anew() -> None:
    continuity = Continuity()
    continuity.accept("p1", always_offset=True)
    continuity.take(["x", "g.1"], NOW_S)
    continuity.forget()
    assert continuity.request(None) is None
    assert continuity.accept("p1", always_offset=True) is False


@pytest.mark.parametrize(
    ("seen", "offset", "taken"),
    [
        ("g.7", "g.8", True),
        ("g.7", "g.70", True),
        ("g.10", "g.9", False),
        ("g.7", "g.6", False),
        ("g.7", "g.0007", True),
        ("g.7", "g.7", True),  # a volatile event carries the position of the one before
        ("g.7", "h.1", True),
        ("a.b.7", "a.b.6", False),
        ("g.7", "", True),
        ("", "", True),
        ("g.7", "g.", True),
        ("g.7", "g.²", True),
        ("g.7", "g.٣", True),
        ("g.7", "g.-1", True),
        ("g." + "9" * 5000, "g.1", True),
        ("g.7", "g." + "0" * 5000, True),
    ],
)
def test_events_before_the_last_one_of_a_generation_were_seen(seen: str, offset: str, taken: bool) -> None:
    continuity = Continuity()
    continuity.accept("p1", always_offset=True)
    continuity.take(["x", seen], NOW_S)
    assert (continuity.take(["y", offset], NOW_S) == ["y"]) is taken
    assert continuity.offset == (offset if taken else seen)


@given(st.lists(st.integers(0, 30), max_size=30))
def test_offsets_only_move_forward(numbers: list[int]) -> None:
    continuity = Continuity()
    continuity.accept("p1", always_offset=True)
    taken = [n for n in numbers if continuity.take(["x", f"g.{n}"], NOW_S) is not None]
    assert taken == sorted(taken)
    assert not numbers or taken[-1] == max(numbers)


@given(st.lists(st.text()), st.lists(st.text()))
def test_any_strings_may_be_offsets(offsets: list[str], more: list[str]) -> None:
    continuity = Continuity()
    continuity.accept("p1", always_offset=True)
    for offset in offsets + more:
        assert continuity.take(["x", offset], NOW_S) in (["x"], NOW_S)


# ---------------------------------------------------------------------------------------------- outbox


# ------------------------------------------------------------------------------------ other servers' offsets


def yeast(time_s: float) -> str:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
    milliseconds, text = int(time_s * 1000), ""
    while milliseconds:
        milliseconds, digit = divmod(milliseconds, 64)
        text = digits[digit] + text
    return text


def with_other_server() -> Continuity:
    continuity = Continuity()
    continuity.accept("p1", always_offset=False)
    return continuity


@pytest.mark.parametrize(
    "offset",
    [yeast(NOW_S), f"{yeast(NOW_S)}.1", f"{yeast(NOW_S)}.z_", f"{int(NOW_S * 1000)}-0", f"{int(NOW_S):x}{'a' * 16}"],
)
def test_nodes_offsets_are_known_by_form_and_time(offset: str) -> None:
    continuity = with_other_server()
    assert continuity.take(["x", 1, offset], NOW_S) == ["x", 1]
    assert continuity.offset == offset
    assert continuity.take(["x", 1, offset], NOW_S) is None
    assert continuity.take(["volatile", "hello"], NOW_S) == ["volatile", "hello"]
    assert continuity.request(None) == {"pid": "p1", "offset": offset}


@pytest.mark.parametrize("text", ["example", "hello", "", yeast(NOW_S - 10 * 86_400), "1700000000000-5", "0" * 24])
def test_other_texts_are_the_applications_but_may_be_an_unknown_adapters(text: str) -> None:
    continuity = with_other_server()
    assert continuity.take(["x", text], NOW_S) == ["x", text]
    assert continuity.offset == text
    assert continuity.take(["x", text], NOW_S) == ["x", text]


def test_offsets_without_an_order_are_remembered_over_a_recovery_and_no_longer() -> None:
    continuity = with_other_server()
    offset = yeast(NOW_S)
    continuity.take(["x", offset], NOW_S)
    assert continuity.accept("p1", always_offset=False)
    assert continuity.take(["x", offset], NOW_S) is None
    assert not continuity.accept("p2", always_offset=False)
    assert continuity.take(["x", offset], NOW_S) == ["x"]


def test_only_the_latest_offsets_are_remembered() -> None:
    continuity = with_other_server()
    for n in range(3000):
        assert continuity.take(["x", f"{int(NOW_S * 1000)}-{n}"], NOW_S) == ["x"]
    assert continuity.take(["x", f"{int(NOW_S * 1000)}-2999"], NOW_S) is None
    assert continuity.take(["x", f"{int(NOW_S * 1000)}-0"], NOW_S) == ["x"]


# ----------------------------------------------------------------------------------------- what is to be sent


class SendBufferAgainstModel(RuleBasedStateMachine):
    """An outbox behaves as a plain list of items and sizes does."""

    LIMIT_ITEMS = 4
    LIMIT_BYTES = 100

    def __init__(self) -> None:
        super().__init__()
        self.outbox: SendBuffer[int] = SendBuffer(max_items=self.LIMIT_ITEMS, max_bytes=self.LIMIT_BYTES)
        self.model: deque[tuple[int, int]] = deque()
        self.popped: tuple[int, int] | None = None
        self.next = 0

    def waiting(self) -> int:
        return sum(size for _, size in self.model)

    @rule(size=st.integers(0, 150))
    def push(self, size: int) -> None:
        self.next += 1
        room = not self.model or (len(self.model) < self.LIMIT_ITEMS and self.waiting() + size <= self.LIMIT_BYTES)
        assert self.outbox.push(self.next, size) is room
        if room:
            self.model.append((self.next, size))

    @rule(size=st.integers(0, 150))
    def push_over_limit(self, size: int) -> None:
        self.next += 1
        self.outbox.push_over_limit(self.next, size)
        self.model.append((self.next, size))

    @rule()
    def pop(self) -> None:
        self.popped = self.model.popleft() if self.model else None
        assert self.outbox.pop() == (self.popped[0] if self.popped else None)

    @precondition(lambda self: self.popped is not None)
    @rule()
    def put_back(self) -> None:
        assert self.popped is not None
        self.outbox.put_back(*self.popped)
        self.model.appendleft(self.popped)
        self.popped = None

    @rule(number=st.integers(0, 20))
    def remove(self, number: int) -> None:
        entry = next((entry for entry in self.model if entry[0] == number), None)
        assert self.outbox.remove(number, entry[1] if entry else 0) is (entry is not None)
        if entry:
            self.model.remove(entry)

    @invariant()
    def same_length(self) -> None:
        assert len(self.outbox) == len(self.model)


TestSendBuffer = SendBufferAgainstModel.TestCase
