"""The room index against a plain set of pairs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from waypost.server.emitting.rooms import RoomIndex

members = st.integers(0, 4)
rooms = st.lists(st.sampled_from("abc"), max_size=3)
steps = st.lists(st.tuples(st.sampled_from(["add", "leave", "remove"]), members, rooms), max_size=40)


@given(steps, st.none() | rooms, rooms)
def test_index_is_a_set_of_pairs(
    taken: list[tuple[str, int, list[str]]], to: list[str] | None, but: list[str]
) -> None:
    index: RoomIndex[int] = RoomIndex()
    model: dict[int, set[str]] = {}
    for step, member, names in taken:
        if step == "add":
            index.add(member, names)
            model.setdefault(member, set()).update(names)
        elif step == "leave":
            index.leave(member, names)
            model.get(member, set()).difference_update(names)
        else:
            assert index.remove(member) == model.pop(member, set())
    for member in range(5):
        assert index.rooms_of(member) == model.get(member, set())
        assert (member in index) == (member in model)
    wanted = {
        member for member, inside in model.items() if (to is None or inside & set(to)) and not inside & set(but)
    }
    chosen = index.select(to, but)
    assert len(chosen) == len(set(chosen))
    assert set(chosen) == wanted


def test_empty_rooms_are_forgotten() -> None:
    index: RoomIndex[int] = RoomIndex()
    index.add(1, ("a", "b"))
    index.leave(1, ("a",))
    index.remove(1)
    assert index._rooms == {}
