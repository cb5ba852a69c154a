"""Writes on a primary whose synchronous standby stands still: what is said of each of them is true afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import waypost
from tests.storage.backends import ignore
from tests.storage.postgres.stores import followed, insist, opened, until
from tests.support.line import Line
from tests.support.standby import Pair, synchronous_pair
from tests.support.waiting import until_async
from waypost.errors import StorageUncertain
from waypost.storage.queue_records import NewMessageRow

pytestmark = pytest.mark.long

_APPENDS = "waypost append %"
_STORED = "SELECT record FROM waypost.log WHERE kind = 0 ORDER BY position"


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary and its synchronous standby."""
    with synchronous_pair() as pair:
        yield pair


def stored(pair: Pair, *, at_standby: bool = False) -> list[bytes]:
    server = pair.standby if at_standby else pair.primary
    return [bytes(row[0]) for row in server.execute(_STORED, database=pair.database)]


async def has_it_too(pair: Pair, expected: list[bytes]) -> None:
    await until(lambda: stored(pair, at_standby=True) == expected)


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_a_write_whose_wait_is_ended_is_reported_once_the_standby_has_it(pair: Pair, function: str) -> None:
    async with opened(pair.primary.url(pair.database)) as store:
        rows = await followed(store)
        await rows.append(b"first")
        pair.standby.freeze()
        append = asyncio.create_task(rows.append(b"second"))
        await until(lambda: pair.waiting(_APPENDS) == 1)
        pair.end_waits(function, _APPENDS)
        # It is in the primary, but a promoted standby would not have it.
        await until(lambda: stored(pair) == [b"first", b"second"])
        await until(lambda: pair.waiting("waypost upkeep %") == 1)
        assert not append.done()
        assert rows.rows == [(1, b"first")]
        pair.standby.thaw()
        assert await append == 2
        assert await rows.append(b"third") == 3
        assert rows.rows == [(1, b"first"), (2, b"second"), (3, b"third")]
        await has_it_too(pair, [b"first", b"second", b"third"])


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_it_is_uncertain_if_the_standby_does_not_go_on_in_time(pair: Pair, function: str) -> None:
    async with opened(pair.primary.url(pair.database), patience_s=0.5) as store:
        rows = await followed(store)
        await rows.append(b"first")
        pair.standby.freeze()
        append = asyncio.create_task(rows.append(b"second"))
        await until(lambda: pair.waiting(_APPENDS) == 1)
        pair.end_waits(function, _APPENDS)
        with pytest.raises(StorageUncertain) as uncertain:
            await append
        assert uncertain.value.operation == "append an event to /"
        pair.standby.thaw()
        position = await insist(lambda: rows.append(b"third"))
        # It was taken: the primary lives. It is delivered once, and in its place.
        assert rows.rows == [(1, b"first"), (2, b"second"), (position, b"third")]
        await has_it_too(pair, [b"first", b"second", b"third"])


async def test_after_a_failover_the_uncertain_write_is_there_once_or_not_at_all(pair: Pair) -> None:
    with Line("127.0.0.1", pair.primary.port) as line:
        url = f"postgresql://postgres@127.0.0.1:{line.port}/{pair.database}"
        async with opened(url, patience_s=0.5) as store:
            rows = await followed(store)
            await rows.append(b"first")
            pair.standby.freeze()
            append = asyncio.create_task(rows.append(b"second"))
            await until(lambda: pair.waiting(_APPENDS) == 1)
            pair.end_waits("pg_cancel_backend", _APPENDS)
            with pytest.raises(StorageUncertain):
                await append
            pair.promote()
            line.lead_to(pair.standby.port)
            position = await insist(lambda: rows.append(b"third"))
            found = stored(pair, at_standby=True)
            assert found in ([b"first", b"third"], [b"first", b"second", b"third"])
            assert rows.rows == [*enumerate(found, 1)]
            assert position == len(found)


@pytest.mark.parametrize("how", ["a timeout", "a cancellation"])
async def test_a_caller_that_gives_up_cancels_nothing(pair: Pair, how: str) -> None:
    async with opened(pair.primary.url(pair.database)) as store:
        rows = await followed(store)
        await rows.append(b"first")
        pair.standby.freeze()
        if how == "a timeout":
            append = asyncio.create_task(asyncio.wait_for(rows.append(b"second"), 0.2))
        else:
            append = asyncio.create_task(rows.append(b"second"))
        await until(lambda: pair.waiting(_APPENDS) == 1)
        if how == "a cancellation":
            append.cancel()
        with pytest.raises((TimeoutError, asyncio.CancelledError)):
            await append
        # It goes on in the primary, which a cancelled call would have made forget the standby.
        assert pair.waiting(_APPENDS) == 1
        assert rows.rows == [(1, b"first")]
        pair.standby.thaw()
        assert await rows.append(b"third") == 3
        assert rows.rows == [(1, b"first"), (2, b"second"), (3, b"third")]
        await has_it_too(pair, [b"first", b"second", b"third"])
    assert "canceling wait" not in pair.primary.log.read_text()


async def test_an_emit_from_outside_is_uncertain_and_counts_once(pair: Pair) -> None:
    url = pair.primary.url(pair.database)
    async with opened(url) as store:
        rows = await followed(store)
        async with waypost.Emitter(url) as emitter:
            await emitter.emit("first")
            pair.standby.freeze()
            emit = asyncio.create_task(emitter.emit("second", id="once"))
            await until(lambda: pair.waiting("waypost emitter") == 1)
            pair.end_waits("pg_cancel_backend", "waypost emitter")
            with pytest.raises(StorageUncertain):
                await emit
            pair.standby.thaw()
            await emitter.emit("second", id="once")
            await until(lambda: len(rows.rows) >= 2)
            await emitter.emit("third")
        await until(lambda: len(rows.rows) >= 3)
        assert [position for position, _ in rows.rows] == [1, 2, 3]
        assert [b"second" in record for record in stored(pair)] == [False, True, False]


async def test_upkeep_goes_on_after_its_wait_for_the_standby_was_ended(pair: Pair) -> None:
    async with opened(pair.primary.url(pair.database)) as store:
        queue = store.queue("jobs")
        # One of them is due a moment after the standby has been frozen, however long that takes.
        delayed = [NewMessageRow(str(number), b"record", delay_s=float(number)) for number in range(1, 60)]
        await queue.enqueue(delayed, deduplicate_s=0, on_commit=ignore)
        pair.standby.freeze()
        await until(lambda: pair.waiting("waypost upkeep %") == 1)
        top = (await queue.info()).top
        pair.end_waits("pg_cancel_backend", "waypost upkeep %")
        pair.standby.thaw()
        await until_async(queue.info, lambda info: info.top >= top + 2, "two more messages are due")
