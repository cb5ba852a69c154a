"""The storage contract, sentence by sentence, on every backend: sessions and their rooms."""

from __future__ import annotations

import asyncio

import pytest

from tests.storage.backends import Clock, Factory, fill, ignore
from waypost.errors import StorageError
from waypost.storage.base import TOMBSTONE_S, Journal, Store
from waypost.storage.journal_records import ExpiredSession, Membership, Retention, SessionRow

KEY = b"\x00digest"


async def found(journal: Journal, key: bytes = KEY) -> SessionRow:
    session = await journal.find_session(key)
    assert session is not None
    return session


async def rooms_at(journal: Journal, position: int) -> set[str]:
    return {one.room for one in (await found(journal)).memberships if one.covers(position)}


async def test_a_session_is_found_as_it_was_stored(store: Store) -> None:
    journal = await store.journal("/")
    await fill(journal, 3)
    told: list[int] = []
    assert await journal.open_session(KEY, "sid", b"\x00data", told.append) == 3
    assert told == [3]
    assert await found(journal) == SessionRow(KEY, "sid", 3, 3, 3, b"\x00data", None, ())
    assert await journal.find_session(b"other") is None
    assert await (await store.journal("/other")).find_session(KEY) is None


async def test_a_key_is_unique(store: Store) -> None:
    journal = await store.journal("/")
    await journal.open_session(KEY, "sid", b"", ignore)
    told: list[int] = []
    with pytest.raises(StorageError, match="stored already"):
        await journal.open_session(KEY, "other", b"", told.append)
    assert told == []
    assert (await found(journal)).sid == "sid"


async def test_a_failing_write_harms_none_around_it(store: Store) -> None:
    journal = await store.journal("/")
    await journal.open_session(KEY, "sid", b"", ignore)
    results = await asyncio.gather(
        journal.append(b"before", ignore),
        journal.open_session(KEY, "sid", b"", ignore),
        journal.append(b"between", ignore),
        journal.join(KEY, ["ok", "\udc80"], ignore),
        store.queue("q").settle("nobody", 1, [1]),
        journal.append(b"after", ignore),
        return_exceptions=True,
    )
    assert [result for result in results if isinstance(result, int)] == [1, 2, 3]
    assert isinstance(results[1], StorageError)
    assert isinstance(results[4], StorageError)
    assert await journal.append(b"later", ignore) == 4
    # Whether a backend takes a name that is no Unicode is its own affair, but it takes all rooms or none.
    joined = {one.room for one in (await found(journal)).memberships}
    assert joined == (set() if isinstance(results[3], UnicodeError) else {"ok", "\udc80"})


async def test_a_find_sees_what_was_asked_for_before(store: Store) -> None:
    journal = await store.journal("/")
    opened = asyncio.ensure_future(journal.open_session(KEY, "sid", b"", ignore))
    joined = asyncio.ensure_future(journal.join(KEY, ["room"], ignore))
    session = asyncio.ensure_future(journal.find_session(KEY))
    await asyncio.gather(opened, joined, session)
    result = session.result()
    assert result is not None
    assert result.memberships == (Membership("room", 0),)


async def test_data_is_replaced(store: Store) -> None:
    journal = await store.journal("/")
    await journal.open_session(KEY, "sid", b"old", ignore)
    await journal.save_session(KEY, b"new")
    assert (await found(journal)).data == b"new"


async def test_a_detached_session_expires(store: Store, clock: Clock) -> None:
    journal = await store.journal("/")
    await journal.open_session(KEY, "sid", b"old", ignore)
    await journal.save_session(KEY, b"data")
    await journal.open_session(b"attached", "other", b"", ignore)
    await journal.join(KEY, ["room"], ignore)
    await journal.detach_session(KEY, clock.now + 10)
    assert (await found(journal)).expires_at == clock.now + 10
    clock.now += 10
    assert await store.expire_sessions() == []
    assert not (await found(journal)).expired
    clock.now += 0.5
    assert (await found(journal)).expired, "from then on, whether collected or not"
    assert await store.expire_sessions() == [ExpiredSession("/", "sid", b"data")]
    assert await store.expire_sessions() == [], "told once"
    attached = await found(journal, b"attached")
    assert not attached.expired
    await journal.open_session(KEY, "again", b"", ignore)
    again = await found(journal)
    assert (again.sid, again.expired, again.memberships) == ("again", False, ())


async def test_a_journal_is_followed_as_long_as_it_has_sessions(store: Store, clock: Clock) -> None:
    for name in ("/b", "/a", "/nobody"):
        await (await store.journal(name)).append(b"entry", ignore)
    assert await store.followed_journals() == []
    for name in ("/b", "/a"):
        await (await store.journal(name)).open_session(KEY, "sid", b"", ignore)
    assert await store.followed_journals() == ["/a", "/b"]
    await (await store.journal("/a")).end_session(KEY)
    await (await store.journal("/b")).detach_session(KEY, clock.now + 1)
    assert await store.followed_journals() == ["/b"]
    clock.now += 2
    await store.expire_sessions()
    assert await store.followed_journals() == []


async def test_a_journal_that_nobody_follows_can_be_dropped(store: Store, clock: Clock) -> None:
    journal, kept = await store.journal("/gone"), await store.journal("/kept")
    await fill(journal, 3)
    await fill(kept, 2)
    await journal.open_session(KEY, "sid", b"", ignore)
    assert not await store.drop_journal("/gone")
    assert (await found(journal)).sid == "sid"
    assert await journal.append(b"fourth", ignore) == 4
    await journal.detach_session(KEY, clock.now + 1)
    clock.now += 2
    await store.expire_sessions()
    generation = journal.generation
    assert await store.drop_journal("/gone")
    again = await store.journal("/gone")
    assert (again.top, again.oldest, again.size_bytes) == (0, 1, 0)
    assert again.generation != generation
    assert await again.find_session(KEY) is None
    assert await again.append(b"first", ignore) == 1
    assert await again.open_session(KEY, "other", b"", ignore) == 1
    assert (kept.top, await kept.append(b"third", ignore)) == (2, 3)
    assert await store.trim() == 0
    assert await store.drop_journal("/never")


async def test_a_number_that_is_used_again_counts_anew(store: Store) -> None:
    for _ in range(3):
        journal = await store.journal("/last")
        await fill(journal, 2)
        assert journal.top == 2
        assert await store.drop_journal("/last")


async def test_an_expired_session_is_known_as_one_for_a_day(store: Store, clock: Clock) -> None:
    journal = await store.journal("/")
    expires_at = clock.now
    await fill(journal, 3)
    await journal.open_session(KEY, "sid", b"data", ignore)
    await journal.join(KEY, ["room"], ignore)
    await journal.detach_session(KEY, expires_at)
    clock.now += 60
    await store.expire_sessions()
    stone = SessionRow(KEY, "sid", 0, 0, 0, b"", expires_at, (), expired=True)
    for used in (ignore_session, lambda key: journal.attach_session(key, ignore_stored), journal.end_session):
        await used(KEY)
        assert await journal.find_session(KEY) == stone, "a write for it does nothing"
    assert await (await store.journal("/other")).find_session(KEY) is None
    clock.now = expires_at + TOMBSTONE_S
    assert await store.expire_sessions() == []
    assert await journal.find_session(KEY) == stone
    clock.now += 1
    assert await journal.find_session(KEY) is None
    clock.now -= 1
    assert await journal.find_session(KEY) == stone
    clock.now += 1
    assert await store.expire_sessions() == []
    clock.now -= 1
    assert await journal.find_session(KEY) is None, "forgotten for good"


async def ignore_session(_: bytes) -> None:
    pass


def ignore_stored(_: SessionRow) -> None:
    pass


async def test_a_key_that_expired_may_be_used_again(store: Store, clock: Clock) -> None:
    journal = await store.journal("/")
    await journal.open_session(KEY, "sid", b"", ignore)
    await journal.detach_session(KEY, clock.now - 1)
    await store.expire_sessions()
    await journal.open_session(KEY, "again", b"", ignore)
    assert (await found(journal)).sid == "again"
    await journal.end_session(KEY)
    assert await journal.find_session(KEY) is None


async def test_many_sessions_expire_in_one_call(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("memory.store", "sqlite.journals.expiry", "postgres.journals.expiry"):
        monkeypatch.setattr(f"waypost.storage.{module}.MAX_TOMBSTONES", 100)
    one, other = await store.journal("/one"), await store.journal("/other")
    # More than one step takes.
    keys = [b"%d" % number for number in range(1200)]
    for journal in (one, other):
        await asyncio.gather(*(journal.open_session(key, key.decode(), key, ignore) for key in keys))
        await asyncio.gather(*(journal.detach_session(key, clock.now + int(key)) for key in keys))
    clock.now += 1199
    expired = await store.expire_sessions()
    expected = [ExpiredSession(name, f"{at}", b"%d" % at) for name in ("/one", "/other") for at in range(1199)]
    assert sorted(expired, key=str) == sorted(expected, key=str)
    kept = [await one.find_session(key) for key in keys[:1199]]
    assert [stone is not None and stone.expired for stone in kept] == [False] * 1099 + [True] * 100, "the last ones"
    assert not (await found(other, b"1199")).expired


async def test_an_attached_session_does_not_expire(store: Store, clock: Clock) -> None:
    journal = await store.journal("/")
    await journal.open_session(KEY, "sid", b"", ignore)
    await journal.detach_session(KEY, clock.now + 10)
    await journal.attach_session(KEY, ignore_stored)
    clock.now += 1000
    assert await store.expire_sessions() == []
    assert (await found(journal)).expires_at is None


async def test_an_ended_session_is_gone(store: Store) -> None:
    journal = await store.journal("/")
    await journal.open_session(KEY, "sid", b"", ignore)
    await journal.end_session(KEY)
    assert await journal.find_session(KEY) is None


async def test_a_write_for_no_session_does_nothing(store: Store) -> None:
    journal = await store.journal("/")
    await fill(journal, 2)
    told: list[int] = []
    await journal.save_session(KEY, b"")
    await journal.detach_session(KEY, 1.0)
    await journal.end_session(KEY)
    await journal.join(KEY, ["room"], told.append)
    await journal.leave(KEY, ["room"], told.append)
    journal.prove(KEY, 2, 2)
    await journal.attach_session(KEY, ignore_stored)
    assert told == [2, 2]
    assert await journal.find_session(KEY) is None


async def test_what_is_proven_never_moves_backwards(store: Store) -> None:
    journal = await store.journal("/")
    await fill(journal, 4)
    await journal.open_session(KEY, "sid", b"", ignore)
    assert (await found(journal)).proven == 4
    await fill(journal, 6)
    journal.prove(KEY, 7, 5)
    journal.prove(KEY, 6, 6)
    assert ((await found(journal)).proven, (await found(journal)).last) == (7, 5)
    journal.prove(KEY, 5, 4)
    assert ((await found(journal)).proven, (await found(journal)).last) == (7, 5)
    assert (await found(journal)).start == 4


async def test_memberships_cover_what_came_while_inside(store: Store) -> None:
    journal = await store.journal("/")
    told: list[int] = []
    await journal.open_session(KEY, "sid", b"", ignore)
    await fill(journal, 1)
    await journal.join(KEY, ["a", "b"], told.append)
    await fill(journal, 2)
    await journal.leave(KEY, ["a", "never"], told.append)
    await fill(journal, 1)
    await journal.join(KEY, ["a", "b"], told.append)
    await fill(journal, 1)
    assert told == [1, 3, 4]
    expected = [set(), {"a", "b"}, {"a", "b"}, {"b"}, {"a", "b"}]
    assert [await rooms_at(journal, position) for position in range(1, 6)] == expected
    memberships = (await found(journal)).memberships
    assert set(memberships) == {Membership("a", 1, 3), Membership("b", 1), Membership("a", 4)}


async def test_rooms_joined_and_left_between_two_entries_cover_none(store: Store) -> None:
    journal = await store.journal("/")
    await journal.open_session(KEY, "sid", b"", ignore)
    for _ in range(3):
        await journal.join(KEY, ["room"], ignore)
        await journal.leave(KEY, ["room"], ignore)
    assert (await found(journal)).memberships == ()
    await journal.join(KEY, ["room"], ignore)
    await fill(journal, 1)
    for _ in range(3):
        await journal.leave(KEY, ["room"], ignore)
        await journal.join(KEY, ["room"], ignore)
    await fill(journal, 1)
    assert [await rooms_at(journal, position) for position in (1, 2, 3)] == [{"room"}, {"room"}, {"room"}]


async def test_joins_are_ordered_with_appends(store: Store) -> None:
    journal = await store.journal("/")
    await journal.open_session(KEY, "sid", b"", ignore)
    told: list[tuple[str, int]] = []
    async with asyncio.TaskGroup() as group:
        for number in range(30):
            room = f"room {number}"
            group.create_task(journal.append(b"", lambda at: told.append(("append", at))))
            group.create_task(journal.join(KEY, [room], lambda at: told.append(("join", at))))
    assert told == [(kind, at) for at in range(1, 31) for kind in ("append", "join")]
    assert {one.room: one.since for one in (await found(journal)).memberships} == {
        f"room {number}": number + 1 for number in range(30)
    }


async def test_old_memberships_go_with_the_entries(factory: Factory, clock: Clock) -> None:
    store = factory(retention=Retention(max_entries=5), wall_time=clock)
    await store.open()
    journal = await store.journal("/")
    await journal.open_session(KEY, "sid", b"", ignore)
    await journal.join(KEY, ["early", "late", "still"], ignore)
    await fill(journal, 2)
    await journal.leave(KEY, ["early"], ignore)
    await fill(journal, 8)
    await journal.leave(KEY, ["late"], ignore)
    await store.trim()
    assert {one.room for one in (await found(journal)).memberships} == {"late", "still"}
    await store.close()


async def test_the_sessions_of_a_journal_can_be_looked_through(store: Store, clock: Clock) -> None:
    journal, other = await store.journal("/"), await store.journal("/other")
    for number in range(5):
        await journal.open_session(b"%d" % number, f"sid {number}", b"data", ignore)
    await other.open_session(b"else", "sid", b"", ignore)
    await journal.join(b"3", ["room"], ignore)
    await journal.end_session(b"4")
    found = {one.key: one for one in await journal.sessions(10)}
    assert found.keys() == {b"0", b"1", b"2", b"3"}
    assert found[b"3"] == await journal.find_session(b"3")
    assert len(await journal.sessions(2)) == 2
    assert await (await store.journal("/none")).sessions(10) == []
