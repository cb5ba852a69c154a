"""The three orders against a plain list: who may go is always who the list says, and in the end everyone has gone."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from waypost.server.queues.options import Order
from waypost.server.queues.orders.delivery_order import DeliveryOrder, Read, ReadKey, ReadOn, ReadRetries
from waypost.server.queues.orders.making import make_order
from waypost.storage.queue_records import MessageRow

_PAGE = 3


class OrderMachine(RuleBasedStateMachine):
    """A delivery order, the store it reads from as a list, and whoever takes its messages."""

    order: Order

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[int, MessageRow] = {}
        self.in_hand: dict[int, MessageRow] = {}
        self.given: set[int] = set()
        self.now = 100.0
        self.top = 0
        self.reading: tuple[Read, list[MessageRow], float, bool] | None = None
        self.paused: set[int] = set()
        self.late: set[int] = set()

    @initialize(keys=st.lists(st.sampled_from(["a", "b", None]), max_size=12), failed=st.sets(st.integers(1, 12)))
    def begin(self, keys: list[str | None], failed: set[int]) -> None:
        for key in keys:
            self.store(key, self.now + 5 if self.top + 1 in failed else 0.0)
        self.upcoming = make_order(self.order, 0)

    def store(self, key: str | None, retry_at: float = 0.0) -> MessageRow:
        self.top += 1
        self.stored[self.top] = MessageRow(self.top, f"m{self.top}", b"x", 0.0, key=key, retry_at=retry_at)
        if retry_at:
            self.paused.add(self.top)
        return self.stored[self.top]

    # -- the store ------------------------------------------------------------------------------------------

    @rule(key=st.sampled_from(["a", "b", None]))
    def arrives(self, key: str | None) -> None:
        self.upcoming.arrive(self.store(key), self.now)

    @rule(key=st.sampled_from(["a", "b", None]))
    def comes_from_outside(self, key: str | None) -> None:
        self.store(key)
        self.upcoming.look_again()

    @rule(seconds=st.sampled_from([1.0, 10.0]))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.reading is None)
    @rule()
    def reads(self) -> None:
        read = self.upcoming.wants(self.now)
        if read is not None:
            self.reading = (read, *self.find(read))

    @precondition(lambda self: self.reading is not None)
    @rule()
    def has_read(self) -> None:
        assert self.reading is not None
        read, found, next_at, complete = self.reading
        self.reading = None
        self.upcoming.take(read, found, self.now, complete=complete, due_at=next_at, done=self.late)

    @precondition(lambda self: self.reading is not None)
    @rule()
    def can_not_read(self) -> None:
        assert self.reading is not None
        self.upcoming.not_read(self.reading[0])
        self.reading = None

    def find(self, read: Read) -> tuple[list[MessageRow], float, bool]:
        rows = [self.stored[position] for position in sorted(self.stored)]
        if isinstance(read, ReadOn):
            found = [row for row in rows if row.position > read.after]
            return found[:_PAGE], inf, not found
        if isinstance(read, ReadKey):
            return (
                [row for row in rows if row.key == read.key and read.after < row.position <= read.upto][:_PAGE],
                inf,
                True,
            )
        assert isinstance(read, ReadRetries)
        failed = [row for row in rows if row.retry_at and row.position <= read.upto]
        due = [row for row in failed if row.retry_at <= self.now and row.position not in read.excluding]
        return due[:_PAGE], min((row.retry_at for row in failed if row.retry_at > self.now), default=inf), not due

    # -- who takes messages ---------------------------------------------------------------------------------

    @rule()
    def takes(self) -> None:
        message = self.upcoming.next(self.now)
        if message is None:
            return
        assert message.position in self.stored, "it was done"
        assert message.position not in self.in_hand, "somebody has it"
        assert self.stored[message.position].retry_at <= self.now, "it is paused"
        self.check_order(message)
        self.in_hand[message.position] = message
        self.given.add(message.position)

    def check_order(self, message: MessageRow) -> None:
        if self.order == "strict":
            assert not self.in_hand
            assert message.position == min(self.stored)
        elif self.order == "key" and message.key is not None:
            same = [row.position for row in self.stored.values() if row.key == message.key]
            assert message.position == min(same)

    def pick(self, data: st.DataObject) -> MessageRow:
        return self.in_hand.pop(data.draw(st.sampled_from(sorted(self.in_hand))))

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def acknowledges(self, data: st.DataObject) -> None:
        message = self.pick(data)
        del self.stored[message.position]
        self.paused.discard(message.position)
        self.upcoming.done(message)

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def goes_away(self, data: st.DataObject) -> None:
        self.upcoming.put_back(self.pick(data))

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def rejects(self, data: st.DataObject) -> None:
        message = self.pick(data)._replace(retry_at=self.now + 5)
        self.stored[message.position] = message
        self.paused.add(message.position)
        self.upcoming.park(message)

    @rule(chosen=st.integers(0, 11))
    def acknowledges_late(self, chosen: int) -> None:
        # Of what an earlier order of the same consumer gave out, too.
        waiting = [row for row in self.stored.values() if row.position not in self.in_hand and self.is_first(row)]
        if waiting:
            message = waiting[chosen % len(waiting)]
            del self.stored[message.position]
            self.late.add(message.position)
            self.upcoming.withdraw(message)

    def is_first(self, message: MessageRow) -> bool:
        if self.order == "strict":
            return not self.in_hand and message.position == min(self.stored)
        if self.order == "none" or message.key is None:
            return True
        return message.position == min(row.position for row in self.stored.values() if row.key == message.key)

    # -- in the end everyone has gone -----------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "upcoming"):
            return
        if self.reading is not None:
            self.has_read()
        for message in list(self.in_hand.values()):
            self.upcoming.put_back(message)
        self.in_hand.clear()
        for _ in range(20 * (self.top + 2)):
            self.reads()
            if self.reading is not None:
                self.has_read()
            self.takes()
            for message in list(self.in_hand.values()):
                del self.in_hand[message.position], self.stored[message.position]
                self.upcoming.done(message)
            self.now += 1
        assert not self.stored, f"these never went out: {sorted(self.stored)}"


@pytest.mark.parametrize("order", ["strict", "key", "none"])
def test_order_against_a_list(order: Order) -> None:
    class Machine(OrderMachine):
        pass

    Machine.order = order
    case = Machine.TestCase
    case.settings = settings(max_examples=40, stateful_step_count=25)
    case("runTest").runTest()


def test_what_was_read_of_a_key_is_not_read_again() -> None:
    now = 100.0
    rows = [MessageRow(number, f"m{number}", b"x", 0.0, key="a") for number in range(1, 6)]
    # It failed before, so that the store is asked for it and for all that follow it.
    rows[1] = rows[1]._replace(retry_at=now - 1)
    upcoming = make_order("key", 0)
    _read_on(upcoming, rows)
    first = upcoming.next(now)
    assert first is not None
    upcoming.done(first)
    read = upcoming.wants(now)
    assert isinstance(read, ReadKey)
    upcoming.take(read, rows[1:], now, complete=True)
    for row in rows[1:]:
        assert upcoming.next(now) == row
        upcoming.done(row)
        if row is not rows[-1]:
            assert not isinstance(upcoming.wants(now), ReadKey)


@pytest.mark.parametrize("size", [1, 300_000])
@pytest.mark.parametrize("comes", ["read", "arriving"])
@pytest.mark.parametrize("order", ["strict", "key", "none"])
def test_only_some_messages_wait_in_memory_whether_many_or_large(order: Order, comes: str, size: int) -> None:
    upcoming = make_order(order, 0)
    rows = [MessageRow(number, f"m{number}", b"x" * size, 0.0, key=f"k{number}") for number in range(1, 1001)]
    if comes == "read":
        _read_on(upcoming, rows)
    else:
        _read_on(upcoming, [])
        for row in rows:
            upcoming.arrive(row, 0.0)
    waiting = 0
    while (message := upcoming.next(0.0)) is not None:
        waiting += 1
        upcoming.done(message)
    # What is read ahead is less than what may come by itself, so that pages are not read for nothing.
    expected = {(1, "read"): 64, (1, "arriving"): 256, (300_000, "read"): 1, (300_000, "arriving"): 4}
    assert waiting == expected[size, comes]


def test_no_more_wait_in_memory_after_some_came_back_from_who_had_them() -> None:
    upcoming = make_order("none", 0)
    rows = [MessageRow(number, f"m{number}", b"x", 0.0) for number in range(1, 1001)]
    _read_on(upcoming, [])
    for row in rows[:256]:
        upcoming.arrive(row, 0.0)
    first = upcoming.next(0.0)
    assert first is not None
    upcoming.arrive(rows[256], 0.0)
    upcoming.put_back(first)
    for row in rows[257:]:
        upcoming.arrive(row, 0.0)
    waiting = 0
    while upcoming.next(0.0) is not None:
        waiting += 1
    assert waiting <= 257


def _read_on(upcoming: DeliveryOrder, rows: list[MessageRow]) -> None:
    """Let an order read, in pages of one message, as long as it wants to."""
    left = list(rows)
    while isinstance(read := upcoming.wants(0.0), ReadOn):
        upcoming.take(read, left[:1], 0.0, complete=not left)
        del left[:1]
