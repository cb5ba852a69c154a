"""The tail against a plain list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waypost.storage.tail import Tail

RECORDS = st.lists(st.binary(max_size=12), max_size=60)


def kept(records: list[bytes], top: int, max_bytes: int, max_entries: int) -> list[tuple[int, bytes]]:
    """What a tail must hold after appending records one by one to a journal with that top."""
    held: list[tuple[int, bytes]] = []
    for position, record in enumerate(records, top + 1):
        held.append((position, record))
        while held and (sum(len(one) for _, one in held) > max_bytes or len(held) > max_entries):
            del held[0]
    return held


@given(RECORDS, st.integers(0, 50), st.integers(0, 100), st.integers(0, 40), st.data())
def test_holds_and_reads_what_a_list_would(
    records: list[bytes], top: int, max_bytes: int, max_entries: int, data: st.DataObject
) -> None:
    tail = Tail(top, max_bytes=max_bytes, max_entries=max_entries)
    for record in records:
        tail.append(record)
    held = kept(records, top, max_bytes, max_entries)
    last = top + len(records)
    assert len(tail) == len(held)
    assert tail.first == (held[0][0] if held else last + 1)

    before = data.draw(st.integers(0, last + 5), "drop before")
    assert tail.drop_before(before) == sum(position < before for position, _ in held)
    held = [one for one in held if one[0] >= before]
    assert tail.first == (held[0][0] if held else last + 1)

    after = data.draw(st.integers(tail.first - 1, last), "after")
    upto = data.draw(st.integers(after - 3, last), "upto")
    entries = data.draw(st.integers(1, 20), "max_entries")
    size = data.draw(st.integers(0, 60), "max_bytes")
    expected: list[tuple[int, bytes]] = []
    for position, record in held:
        if after < position <= upto and len(expected) < entries:
            if expected and sum(len(one) for _, one in expected) + len(record) > size:
                break
            expected.append((position, record))
    found = tail.read(after, upto, max_entries=entries, max_bytes=size)
    assert [(entry.position, entry.record) for entry in found] == expected


@given(RECORDS, st.integers(0, 30), st.data())
def test_holds_what_is_not_released(records: list[bytes], max_bytes: int, data: st.DataObject) -> None:
    tail = Tail(5, max_bytes=max_bytes, holds=True)
    released = 5
    for count, record in enumerate(records, 1):
        tail.append(record)
        if data.draw(st.booleans(), "release"):
            released = data.draw(st.integers(released, 5 + count), "released")
            tail.release(released)
        held = kept(records[:count], 5, max_bytes, count)
        oldest = min(held[0][0] if held else 6 + count, released + 1)
        assert tail.first <= oldest
        found = tail.read(tail.first - 1, 5 + count, max_entries=count, max_bytes=1000)
        assert [entry.record for entry in found] == records[tail.first - 6 : count]
    tail.release(5 + len(records))
    assert len(tail) == len(kept(records, 5, max_bytes, len(records)))


def test_what_was_shed_takes_no_room() -> None:
    tail = Tail(0, max_bytes=1000)
    for _ in range(100_000):
        tail.append(b"0123456789")
    assert len(tail) == 100
    assert tail.first == 99_901
    assert len(tail._records) < 3000
