"""The storage contract, on every backend: rooms that all matching sessions join and leave."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.storage.backends import Clock, fill, ignore
from waypost.storage.base import Journal, Store
from waypost.storage.journal_records import ExpiredSession, Membership

NOBODY: tuple[str, ...] = ()


async def rooms_of(journal: Journal, sid: str) -> set[str]:
    """The rooms that a session, whose key is its sid, is in now."""
    session = await journal.find_session(sid.encode())
    assert session is not None
    return {one.room for one in session.memberships if one.until is None}


async def enter(journal: Journal, **rooms: str) -> None:
    """Open sessions by their sids, each in rooms that are given as one text."""
    for sid, names in rooms.items():
        await journal.open_session(sid.encode(), sid, b"", ignore)
        await journal.join(sid.encode(), names.split(), ignore)


@pytest.fixture
async def journal(store: Store) -> Journal:
    """Sessions a to d; d is of another journal too."""
    other = await store.journal("/other")
    await enter(other, d="red", e="red blue")
    journal = await store.journal("/")
    await enter(journal, a="red", b="red blue", c="blue", d="")
    return journal


@pytest.mark.parametrize(
    ("rooms", "except_", "expected"),
    [
        (None, NOBODY, "abcd"),
        ([], NOBODY, ""),
        (["red"], NOBODY, "ab"),
        (["red", "blue"], NOBODY, "abc"),
        (["d"], NOBODY, "d"),
        (["d", "blue", "nowhere"], NOBODY, "bcd"),
        (None, ["blue"], "ad"),
        (None, ["a", "blue"], "d"),
        (["red"], ["b"], "a"),
        (["red"], ["red"], ""),
    ],
)
async def test_those_that_match_join_and_leave(
    store: Store, journal: Journal, rooms: list[str] | None, except_: list[str], expected: str
) -> None:
    await fill(journal, 2)
    told: list[int] = []
    await journal.join_matching(rooms, except_, ["new", "red"], told.append)
    joined = {sid for sid in "abcd" if "new" in await rooms_of(journal, sid)}
    assert joined == {*expected}
    for sid in joined:
        assert "red" in await rooms_of(journal, sid)
    await fill(journal, 1)
    await journal.leave_matching(["new"], NOBODY, ["new", "never"], told.append)
    assert told == [2, 3]
    for sid in "abcd":
        session = await journal.find_session(sid.encode())
        assert session is not None
        new = [one for one in session.memberships if one.room == "new"]
        assert new == ([Membership("new", 2, 3)] if sid in expected else [])
    assert await rooms_of(await store.journal("/other"), "d") == {"red"}, "not of this journal"


async def test_one_that_is_in_already_stays_as_it_is(journal: Journal) -> None:
    await fill(journal, 1)
    await journal.join_matching(None, NOBODY, ["red"], ignore)
    session = await journal.find_session(b"a")
    assert session is not None
    assert session.memberships == (Membership("red", 0),)


async def test_rooms_joined_and_left_between_two_entries_cover_none(journal: Journal) -> None:
    await fill(journal, 1)
    for _ in range(2):
        await journal.join_matching(None, NOBODY, ["new"], ignore)
        await journal.leave_matching(None, NOBODY, ["new", "red"], ignore)
    session = await journal.find_session(b"a")
    assert session is not None
    assert session.memberships == (Membership("red", 0, 1),)


async def test_a_session_stays_in_the_room_of_its_own_sid(journal: Journal) -> None:
    await journal.join(b"a", ["a"], ignore)
    await journal.join_matching(None, NOBODY, ["a", "b"], ignore)
    assert [await rooms_of(journal, sid) & {"a", "b"} for sid in "ab"] == [{"a", "b"}, {"a"}]
    await journal.leave_matching(None, NOBODY, ["a", "b"], ignore)
    assert [await rooms_of(journal, sid) & {"a", "b"} for sid in "ab"] == [{"a"}, set()]


async def test_those_that_are_away_are_meant_and_those_that_expired_are_not(
    store: Store, journal: Journal, clock: Clock
) -> None:
    await journal.detach_session(b"a", clock.now)
    await journal.detach_session(b"b", clock.now - 1)
    await journal.detach_session(b"c", clock.now - 1)
    await journal.join_matching(["red"], NOBODY, ["new"], ignore)
    assert "new" in await rooms_of(journal, "a")
    assert "new" not in await rooms_of(journal, "b")
    await store.expire_sessions()
    await journal.join_matching(None, NOBODY, ["new"], ignore)
    assert await rooms_of(journal, "c") == set()


async def test_it_has_its_place_in_the_order_of_writes(journal: Journal) -> None:
    told: list[tuple[str, int]] = []

    async def ask(name: str) -> None:
        def note(position: int) -> None:
            told.append((name, position))

        match name:
            case "append":
                await journal.append(b"", note)
            case "join":
                await journal.join(b"d", ["red"], note)
            case "matching":
                await journal.join_matching(["red"], NOBODY, ["new"], note)
            case _:
                await journal.leave_matching(["new"], NOBODY, ["red", "new"], note)

    order = ["append", "matching", "join", "append", "matching", "append", "leave", "append", "matching"]
    await asyncio.gather(*(ask(name) for name in order))
    assert [name for name, _ in told] == order
    assert [position for _, position in told] == [1, 1, 1, 2, 2, 3, 3, 4, 4]
    session = await journal.find_session(b"d")
    assert session is not None
    assert session.memberships == (Membership("red", 1, 3), Membership("new", 2, 3))


async def test_names_that_are_no_unicode_are_taken_all_or_none(journal: Journal) -> None:
    asked = (["red"], NOBODY, ["ok", "\udc80"]), (["\udc80"], NOBODY, ["ok", "\udc80"])
    for rooms, except_, joined in asked:
        try:
            await journal.join_matching(rooms, except_, joined, ignore)
        except UnicodeError:
            assert "ok" not in await rooms_of(journal, "a")
        else:
            assert {"ok", "\udc80"} <= await rooms_of(journal, "a")
    assert await journal.append(b"", ignore) == 1


async def test_any_names_and_many_of_them(journal: Journal) -> None:
    odd = ["", "null", '"', "a\x00b", "a\x00c", "%", "Ünïcode", "\U0001f4e6"]
    await journal.join_matching(["a"], NOBODY, odd, ignore)
    assert await rooms_of(journal, "a") == {"red", *odd}
    await journal.leave_matching(["a\x00b"], NOBODY, ["a\x00b"], ignore)
    assert "a\x00c" in await rooms_of(journal, "a")
    many = [f"room {number}" for number in range(40_000)]
    await journal.join_matching([*many, "red"], [*many, "blue"], ["new"], ignore)
    assert "new" in await rooms_of(journal, "a")
    assert "new" not in await rooms_of(journal, "b")


async def test_it_is_what_sets_would_do(store: Store, rng: random.Random) -> None:
    journal = await store.journal("/")
    sids = [f"s{number}" for number in range(6)]
    names = ["x", "y", "z", *sids[:2]]
    model: dict[str, set[str]] = {sid: set() for sid in sids}
    await enter(journal, **dict.fromkeys(sids, ""))

    def some() -> list[str]:
        return rng.sample(names, rng.randrange(3))

    for _ in range(120):
        rooms, except_, moved = rng.choice([None, some(), some()]), some(), some()
        concerned = [
            sid
            for sid, inside in model.items()
            if (rooms is None or (inside | {sid}) & {*rooms}) and not (inside | {sid}) & {*except_}
        ]
        joins = rng.random() < 0.6
        move = journal.join_matching if joins else journal.leave_matching
        await move(rooms, except_, moved, ignore)
        for sid in concerned:
            change = {*moved} - {sid}
            model[sid] = model[sid] | change if joins else model[sid] - change
        if rng.random() < 0.3:
            await fill(journal, 1)
    assert {sid: await rooms_of(journal, sid) for sid in sids} == model


@pytest.mark.parametrize(
    ("rooms", "except_", "expected"),
    [
        (None, NOBODY, "abcd"),
        ([], NOBODY, ""),
        (["red", "blue"], NOBODY, "abc"),
        (["d", "blue"], ["c"], "bd"),
        (["a"], ["a"], ""),
    ],
)
async def test_those_that_match_end(
    store: Store, journal: Journal, clock: Clock, rooms: list[str] | None, except_: list[str], expected: str
) -> None:
    await journal.save_session(b"b", b"of b")
    await journal.detach_session(b"b", clock.now + 10)
    ended: list[ExpiredSession] = []
    await journal.end_matching(rooms, except_, ended.extend)
    assert {one.sid for one in ended} == {*expected}
    assert all(one.journal == journal.name for one in ended)
    assert all((one.data == b"of b") == (one.sid == "b") for one in ended)
    for sid in "abcd":
        assert (await journal.find_session(sid.encode()) is None) == (sid in expected)
    # Nothing is left of them: a key may be used again, and an end is told once.
    for sid in expected:
        await journal.open_session(sid.encode(), sid, b"", ignore)
        assert await rooms_of(journal, sid) == set()
    await store.expire_sessions()
    assert await rooms_of(await store.journal("/other"), "d") == {"red"}, "not of this journal"


async def test_those_that_expired_do_not_end_a_second_time(store: Store, journal: Journal, clock: Clock) -> None:
    await journal.detach_session(b"a", clock.now - 1)
    ended: list[ExpiredSession] = []
    await journal.end_matching(["red"], NOBODY, ended.extend)
    assert [one.sid for one in ended] == ["b"]
    assert [one.sid for one in await store.expire_sessions()] == ["a"]


async def test_an_end_is_told_in_the_order_of_writes(journal: Journal) -> None:
    order: list[str] = []
    await asyncio.gather(
        journal.append(b"first", lambda _: order.append("first")),
        journal.end_matching(None, NOBODY, lambda _: order.append("end")),
        journal.append(b"second", lambda _: order.append("second")),
        journal.join(b"a", ["new"], lambda _: order.append("join")),
    )
    assert order == ["first", "end", "second", "join"]
    assert await journal.find_session(b"a") is None
