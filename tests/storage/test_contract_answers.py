"""The storage contract, sentence by sentence, on every backend: answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.storage.backends import Clock, keeps
from tests.support.databases import drop_database, make_database
from waypost.errors import StoreClosed
from waypost.storage.answer_base import (
    ANSWER_OVERHEAD_BYTES,
    MAX_ANSWERS_PER_CLIENT,
    Answer,
    AnswerGivenUp,
    AnswerLimits,
)
from waypost.storage.base import ANSWER_TTL_S, Store
from waypost.storage.choose import Clocks, StoreOptions, make_store


async def keep(store: Store, client: bytes, sequence: int, message: str = "", *, settled: int = 0) -> None:
    record = b"%s:%d:%s" % (client, sequence, message.encode())
    await store.answers().keep(Answer(client, sequence, message or f"m{sequence}", record), settled)


async def kept(store: Store, client: bytes, *sequences: int) -> list[int]:
    answers = store.answers()
    return [number for number in sequences if await answers.find(client, number, f"m{number}") is not None]


async def test_an_answer_is_found_by_client_number_and_id(store: Store) -> None:
    await keep(store, b"one", 1)
    answers = store.answers()
    assert await answers.find(b"one", 1, "m1") == b"one:1:"
    assert await answers.find(b"other", 1, "m1") is None
    assert await answers.find(b"one", 2, "m1") is None
    assert await answers.find(b"one", 1, "m2") is None


async def test_records_are_opaque_and_replaced(store: Store) -> None:
    for record in (b"", bytes(range(256)) * 100, b"\x00"):
        await store.answers().keep(Answer(b"c", 1, "m", record), 0)
        assert await store.answers().find(b"c", 1, "m") == record


async def test_what_a_client_has_settled_is_forgotten_of_that_client_only(store: Store) -> None:
    for sequence in range(1, 6):
        await keep(store, b"one", sequence)
        await keep(store, b"other", sequence)
    await keep(store, b"one", 6, settled=4)
    assert await kept(store, b"one", *range(1, 7)) == [5, 6]
    assert await kept(store, b"other", *range(1, 7)) == [1, 2, 3, 4, 5]
    await keep(store, b"other", 7, settled=7)
    assert await kept(store, b"other", *range(1, 8)) == []


async def test_numbers_that_begin_anew_are_other_messages(store: Store) -> None:
    await store.answers().keep(Answer(b"c", 1, "old", b"o"), 0)
    await store.answers().keep(Answer(b"c", 1, "new", b"n"), 0)
    assert await store.answers().find(b"c", 1, "old") == b"o"
    assert await store.answers().find(b"c", 1, "new") == b"n"


async def test_a_client_has_so_many_and_no_more(store: Store) -> None:
    await asyncio.gather(*(keep(store, b"c", sequence) for sequence in range(1, MAX_ANSWERS_PER_CLIENT + 4)))
    await keep(store, b"d", 1)
    assert await kept(store, b"c", 1, 2, 3, 4, 5, MAX_ANSWERS_PER_CLIENT + 3) == [4, 5, MAX_ANSWERS_PER_CLIENT + 3]
    assert await kept(store, b"d", 1) == [1]


async def test_what_is_too_old_is_forgotten(store: Store, clock: Clock) -> None:
    await keep(store, b"c", 1)
    clock.now += 10
    await keep(store, b"c", 2)
    clock.now += ANSWER_TTL_S - 5
    await store.trim()
    assert await kept(store, b"c", 1, 2) == [2]
    clock.now += 10
    await store.trim()
    assert await kept(store, b"c", 1, 2) == []


async def test_they_outlive_the_store_as_far_as_it_keeps_anything(store: Store) -> None:
    await keep(store, b"c", 1)
    answers = store.answers()
    await store.close()
    with pytest.raises(StoreClosed):
        await answers.find(b"c", 1, "m1")
    with pytest.raises(StoreClosed):
        await answers.keep(Answer(b"c", 2, "m2", b""), 0)
    with pytest.raises(StoreClosed):
        store.answers()
    await store.open()
    assert await kept(store, b"c", 1) == ([1] if keeps(store) else [])


async def test_for_how_long_is_an_option(spec: str, clock: Clock) -> None:
    store = make_store(StoreOptions(spec=spec, answer_ttl_s=5), Clocks(wall_time=clock))
    await store.open()
    await keep(store, b"c", 1)
    clock.now += 6
    await store.trim()
    assert await kept(store, b"c", 1) == []
    await store.close()


SIZE = 10_000
FIVE = AnswerLimits(total_bytes=12 * SIZE, account_bytes=5 * (SIZE + ANSWER_OVERHEAD_BYTES))


@pytest.fixture(params=["memory:", "store.db", "postgresql"])
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgresql":
        url = make_database()
        yield url
        drop_database(url)
    else:
        yield "memory:" if request.param == "memory:" else str(tmp_path / str(request.param))


@asynccontextmanager
async def limited(spec: str, limits: AnswerLimits, clock: Clock) -> AsyncIterator[Store]:
    store = make_store(StoreOptions(spec=spec, answer_limits=limits), Clocks(wall_time=clock))
    await store.open()
    yield store
    await store.close()


async def keep_large(store: Store, account: str, sequence: int, clock: Clock, *, size: int = SIZE) -> None:
    """Keep an answer. Each comes from a client of its own."""
    clock.now += 1
    client = f"{account} {sequence}".encode()
    await store.answers().keep(Answer(client, sequence, f"m{sequence}", bytes(size), account), 0)


async def states(store: Store, account: str, count: int) -> str:
    """Tell what became of answers: k for kept, g for given up, - for forgotten."""
    found = ""
    for sequence in range(1, count + 1):
        try:
            record = await store.answers().find(f"{account} {sequence}".encode(), sequence, f"m{sequence}")
        except AnswerGivenUp:
            found += "g"
        else:
            found += "-" if record is None else "k"
    return found


async def test_an_accounts_oldest_answers_are_given_up(spec: str, clock: Clock) -> None:
    async with limited(spec, FIVE, clock) as store:
        for sequence in range(1, 9):
            await keep_large(store, "a", sequence, clock)
        await keep_large(store, "b", 1, clock)
        assert await states(store, "a", 9) == "ggggkkkk-"
        assert await states(store, "b", 1) == "k"


async def test_of_all_answers_those_of_the_largest_account_are_given_up(spec: str, clock: Clock) -> None:
    async with limited(spec, FIVE, clock) as store:
        for account, count in (("b", 1), ("a", 4), ("c", 3), ("", 4)):
            for sequence in range(1, count + 1):
                await keep_large(store, account, sequence, clock)
        assert await states(store, "b", 1) == "k"
        assert await states(store, "c", 3) == "kkk"
        assert "g" in await states(store, "a", 4) + await states(store, "", 4)


async def test_answers_that_were_given_up_are_forgotten_at_last(spec: str, clock: Clock) -> None:
    limits = AnswerLimits(account_bytes=10 * ANSWER_OVERHEAD_BYTES)
    async with limited(spec, limits, clock) as store:
        for sequence in range(1, 16):
            await keep_large(store, "a", sequence, clock)
        assert await states(store, "a", 15) == "-" * 5 + "g" * 10


async def test_an_answer_that_is_larger_than_the_limit_is_given_up(spec: str, clock: Clock) -> None:
    async with limited(spec, FIVE, clock) as store:
        await keep_large(store, "a", 1, clock, size=10 * SIZE)
        assert await states(store, "a", 1) == "g"
        await keep_large(store, "a", 2, clock)
        assert await states(store, "a", 2) == "gk"


async def test_what_is_removed_counts_no_more(spec: str, clock: Clock) -> None:
    async with limited(spec, FIVE, clock) as store:
        answers = store.answers()
        for sequence in range(1, 30):
            # Settled, replaced, and too old: each time the room is free again.
            await answers.keep(Answer(b"one", sequence, f"m{sequence}", bytes(SIZE), "a"), sequence - 1)
            await answers.keep(Answer(b"one", sequence, f"m{sequence}", bytes(2 * SIZE), "a"), sequence - 1)
            await keep_large(store, "a", 1, clock)
        assert await answers.find(b"one", 29, "m29") == bytes(2 * SIZE)
        assert await states(store, "a", 1) == "k"
        clock.now += ANSWER_TTL_S + 1
        await store.trim()
        for sequence in range(1, 6):
            await keep_large(store, "a", sequence, clock)
        assert await states(store, "a", 5) == "kkkkk"


async def test_many_clients_that_ask_for_much_fill_no_disk(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "store.db"
    async with limited(str(path), AnswerLimits(account_bytes=1 << 20), clock) as store:
        for sequence in range(1, 201):
            await keep_large(store, "a", sequence, clock, size=50_000)
    assert path.stat().st_size < 3 << 20
