"""The contract between nodes: the home of a session, claims, and writes of a node that is not the home any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.storage.backends import ignore
from tests.storage.followers import ENGINES, Cluster, Node, Rows, cluster, in_step, settled
from waypost.errors import StorageError
from waypost.storage.base import Journal
from waypost.storage.following import ClaimVoid
from waypost.storage.journal_records import SessionRow

KEY = b"key"


@dataclass
class Three:
    """Three nodes that follow one journal; the first one is the home of a session."""

    many: Cluster
    nodes: list[Node]
    rows: list[Rows]

    @property
    def journals(self) -> list[Journal]:
        return [one.journal for one in self.rows]

    async def session(self) -> SessionRow:
        found = await self.rows[-1].journal.find_session(KEY)
        assert found is not None
        return found

    async def asked(self, times: int = 1) -> None:
        """Wait until the first node was asked to end its life of the session."""
        await settled(lambda: self.rows[0].claims == [KEY] * times, "the home is asked")


@pytest.fixture(params=ENGINES)
async def three(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Three]:
    async with cluster(request.param, tmp_path) as many:
        nodes = [await many.add(name) for name in "abc"]
        rows = [await node.journal() for node in nodes]
        await rows[0].journal.open_session(KEY, "sid", b"data", ignore)
        yield Three(many, nodes, rows)


def begin(work: Awaitable[bytes]) -> asyncio.Future[bytes]:
    return asyncio.ensure_future(work)


async def test_a_claim_waits_until_the_home_has_let_go(three: Three) -> None:
    a, b, _ = three.journals
    claim = begin(b.claim_session(KEY))
    await three.asked()
    await a.save_session(KEY, b"last words")
    assert not claim.done()
    await three.rows[0].append(b"last event")
    await a.release_session(KEY, b"handed")
    assert await claim == b"handed"
    assert three.rows[1].rows == [(1, b"last event")], "all rows of the home were applied before"
    found: list[SessionRow] = []
    assert await b.attach_session(KEY, found.append) == found[0]
    assert (found[0].data, found[0].sid) == (b"last words", "sid")


async def test_a_claim_without_another_life_returns_at_once(three: Three) -> None:
    a, b, c = three.journals
    assert await a.claim_session(KEY) == b"", "the home itself"
    assert await b.claim_session(b"unknown") == b""
    assert await b.attach_session(b"unknown", ignore) is None
    await c.open_session(b"c's", "other", b"", ignore)
    assert await c.claim_session(b"c's") == b""
    assert three.rows[0].claims == []


async def test_the_session_goes_from_node_to_node_and_back(three: Three) -> None:
    home = 0
    for number, following in enumerate([1, 2, 1, 0, 2, 0], 1):
        journal = three.journals[following]
        claim = begin(journal.claim_session(KEY))
        await settled(lambda home=home: three.rows[home].claims == [KEY], "the home is asked")  # type: ignore[misc]
        three.rows[home].claims.clear()
        await three.journals[home].release_session(KEY, b"%d" % number)
        assert await claim == b"%d" % number
        assert await journal.attach_session(KEY, ignore) is not None
        await three.journals[home].save_session(KEY, b"of an earlier home")
        await journal.save_session(KEY, b"%d" % following)
        assert (await three.session()).data == b"%d" % following
        home = following


async def test_a_later_claim_voids_the_earlier_one(three: Three) -> None:
    a, b, c = three.journals
    earlier = begin(b.claim_session(KEY))
    await three.asked()
    later = begin(c.claim_session(KEY))
    with pytest.raises(ClaimVoid):
        await earlier
    with pytest.raises(ClaimVoid):
        await b.attach_session(KEY, ignore)
    await a.release_session(KEY, b"handed")
    assert await later == b"handed"
    with pytest.raises(ClaimVoid):
        await b.attach_session(KEY, ignore)
    with pytest.raises(ClaimVoid):
        await a.attach_session(KEY, ignore)
    assert await c.attach_session(KEY, ignore) is not None
    await b.save_session(KEY, b"no")
    await a.save_session(KEY, b"no")
    assert (await three.session()).data == b"data"


async def test_a_claim_that_was_answered_is_void_too_after_a_later_one(three: Three) -> None:
    a, b, c = three.journals
    earlier = begin(b.claim_session(KEY))
    await three.asked()
    await a.release_session(KEY, b"handed")
    assert await earlier == b"handed"
    assert await c.claim_session(KEY) == b"handed", "it is kept until the session is attached"
    with pytest.raises(ClaimVoid):
        await b.attach_session(KEY, ignore)
    assert await c.attach_session(KEY, ignore) is not None
    assert await c.claim_session(KEY) == b"", "it was taken"


async def test_a_claim_is_void_for_ever_after_a_later_one_has_become_a_life(three: Three) -> None:
    a, b, c = three.journals
    earlier = begin(b.claim_session(KEY))
    await three.asked()
    later = begin(c.claim_session(KEY))
    with pytest.raises(ClaimVoid):
        await earlier
    await a.release_session(KEY, b"")
    await later
    assert await c.attach_session(KEY, ignore) is not None
    with pytest.raises(ClaimVoid):
        await b.attach_session(KEY, ignore)
    assert three.rows[2].claims == [], "its life goes on"
    await c.save_session(KEY, b"new")
    assert (await three.session()).data == b"new"


async def test_a_client_that_returns_to_its_home_stays_there(three: Three) -> None:
    a, b, _ = three.journals
    away = begin(b.claim_session(KEY))
    await three.asked()
    assert await a.claim_session(KEY) == b""
    with pytest.raises(ClaimVoid):
        await away
    assert await a.attach_session(KEY, ignore) is not None
    # What it was asked for before concerns an earlier life.
    await a.release_session(KEY, b"too late")
    again = begin(b.claim_session(KEY))
    await three.asked(2)
    assert not again.done()
    await a.release_session(KEY, b"now")
    assert await again == b"now"


async def test_two_claims_of_one_node_get_the_same(three: Three) -> None:
    a, b, _ = three.journals
    claims = [begin(b.claim_session(KEY)) for _ in range(2)]
    await three.asked()
    await a.release_session(KEY, b"handed")
    assert await asyncio.gather(*claims) == [b"handed", b"handed"]


async def test_a_node_need_not_wait_to_the_end(three: Three) -> None:
    a, b, _ = three.journals
    claim = begin(b.claim_session(KEY))
    await three.asked()
    claim.cancel()
    assert await b.attach_session(KEY, ignore) is not None
    await a.save_session(KEY, b"of a frozen home")
    await a.release_session(KEY, b"too late")
    assert (await three.session()).data == b"data"
    assert await b.claim_session(KEY) == b"", "nothing was handed over in time"


async def test_a_dead_home_lets_go(three: Three) -> None:
    _, b, _ = three.journals
    claim = begin(b.claim_session(KEY))
    await three.asked()
    three.nodes[0].kill()
    assert await claim == b""
    assert (await three.session()).expires_at is None, "it is claimed, so it does not expire"
    assert await b.attach_session(KEY, ignore) is not None


async def test_what_was_handed_over_survives_its_home(three: Three) -> None:
    a, b, c = three.journals
    claim = begin(b.claim_session(KEY))
    await three.asked()
    await a.release_session(KEY, b"handed")
    await claim
    three.nodes[0].kill()
    await settled(lambda: "a" not in three.many.living, "a is gone")
    assert await c.claim_session(KEY) == b"handed"


async def test_a_session_does_not_end_while_it_is_claimed(three: Three) -> None:
    a, b, _ = three.journals
    clock = three.many.clock
    claim = begin(b.claim_session(KEY))
    await three.asked()
    await a.detach_session(KEY, clock.now + 5)
    clock.now += 50
    assert [await node.store.expire_sessions() for node in three.nodes] == [[], [], []]
    await a.release_session(KEY, b"")
    await claim
    clock.now += 50
    assert [await node.store.expire_sessions() for node in three.nodes] == [[], [], []]
    assert await b.attach_session(KEY, ignore) is not None


async def test_a_session_that_was_away_does_not_end_while_it_is_claimed(three: Three) -> None:
    a, b, _ = three.journals
    clock = three.many.clock
    await a.detach_session(KEY, clock.now + 5)
    claim = begin(b.claim_session(KEY))
    await three.asked()
    clock.now += 50
    assert [await node.store.expire_sessions() for node in three.nodes] == [[], [], []]
    claim.cancel()
    # A node that does not attach it in the end detaches it.
    await b.detach_session(KEY, clock.now + 10)
    assert (await three.session()).expires_at == clock.now + 10


async def test_a_claimer_that_gives_up_leaves_the_home_as_it_was(three: Three) -> None:
    a, b, c = three.journals
    claim = begin(b.claim_session(KEY))
    await three.asked()
    claim.cancel()
    await b.detach_session(KEY, three.many.clock.now + 10)
    assert (await three.session()).expires_at is None, "the home still has it attached"
    await a.save_session(KEY, b"of the home")
    assert (await three.session()).data == b"of the home"
    await a.release_session(KEY, b"handed")
    assert await c.claim_session(KEY) == b"handed"


async def test_a_claimer_that_dies_leaves_a_session_that_ends_in_time(three: Three) -> None:
    a, b, _ = three.journals
    clock = three.many.clock
    claim = begin(b.claim_session(KEY))
    await three.asked()
    await a.detach_session(KEY, clock.now + 7)
    await a.release_session(KEY, b"handed")
    await claim
    assert (await three.session()).expires_at is None
    three.nodes[1].kill()
    await settled(lambda: "b" not in three.many.living, "b is gone")
    await in_step(three.rows[2])
    assert (await three.session()).expires_at == clock.now + 7
    assert await three.journals[2].claim_session(KEY) == b"handed"


async def test_a_session_whose_home_and_claimer_die_ends_in_time(three: Three) -> None:
    _, b, _ = three.journals
    claim = begin(b.claim_session(KEY))
    await three.asked()
    three.nodes[0].kill()
    await claim
    three.nodes[1].kill()
    await settled(lambda: not three.nodes[2].nodes.others, "both are gone")
    assert (await three.session()).expires_at == three.many.clock.now + three.many.options.orphan_ttl_s


async def test_a_dead_node_leaves_its_sessions_detached(three: Three) -> None:
    a, _, _ = three.journals
    clock = three.many.clock
    await a.open_session(b"away", "away", b"", ignore)
    await a.detach_session(b"away", clock.now + 3)
    three.nodes[0].kill()
    await settled(lambda: [*three.nodes[2].nodes.others] == ["b"], "a is gone")
    assert (await three.session()).expires_at == clock.now + three.many.options.orphan_ttl_s
    away = await three.journals[2].find_session(b"away")
    assert away is not None
    assert away.expires_at == clock.now + 3
    clock.now += 4
    assert [one.sid for one in await three.nodes[2].store.expire_sessions()] == ["away"]
    assert await three.nodes[1].store.expire_sessions() == []


Write = Callable[[Journal], Awaitable[object]]
WRITES: dict[str, Write] = {
    "save": lambda journal: journal.save_session(KEY, b"other"),
    "detach": lambda journal: journal.detach_session(KEY, 2_000_000),
    "end": lambda journal: journal.end_session(KEY),
    "stuck": lambda journal: journal.note_stuck(KEY, 3, 1),
    "join": lambda journal: journal.join(KEY, ["room"], ignore),
    "leave": lambda journal: journal.leave(KEY, ["home"], ignore),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("handed_over", [True, False], ids=["handed over", "taken"])
async def test_a_write_of_an_earlier_home_changes_nothing(three: Three, write: Write, handed_over: bool) -> None:
    a, b, _ = three.journals
    await a.join(KEY, ["home"], ignore)
    await three.rows[0].append(b"x")
    claim = begin(b.claim_session(KEY))
    await three.asked()
    if handed_over:
        await a.release_session(KEY, b"")
        await claim
    attaching = asyncio.ensure_future(b.attach_session(KEY, ignore))
    await attaching
    claim.cancel()
    before = await three.session()
    await write(a)
    a.prove(KEY, 1, 1)
    assert await three.session() == before
    await write(b)
    b.prove(KEY, 1, 1)
    after = await b.find_session(KEY)
    assert after != before, "and one of the home does"


async def test_a_write_that_changes_nothing_still_has_its_place(three: Three) -> None:
    a, b, _ = three.journals
    claim = begin(b.claim_session(KEY))
    await three.asked()
    await a.release_session(KEY, b"")
    await claim
    await b.attach_session(KEY, ignore)
    told: list[int] = []
    await asyncio.gather(
        a.append(b"", told.append),
        a.join(KEY, ["room"], told.append),
        a.append(b"", told.append),
        a.leave(KEY, ["room"], told.append),
    )
    assert told == [1, 1, 2, 2]


@pytest.mark.parametrize("by", [0, 1], ids=["the home", "another node"])
async def test_a_key_in_use_leaves_the_home_as_it_is(three: Three, by: int) -> None:
    with pytest.raises(StorageError, match="stored already"):
        await three.journals[by].open_session(KEY, "second", b"", ignore)
    await three.journals[0].save_session(KEY, b"of the home")
    await three.journals[1].save_session(KEY, b"no")
    assert (await three.session()).data == b"of the home"


async def test_expired_sessions_are_told_by_their_home(three: Three) -> None:
    a, b, _ = three.journals
    clock = three.many.clock
    await b.open_session(b"b's", "of b", b"", ignore)
    for journal, key in ((a, KEY), (b, b"b's")):
        await journal.detach_session(key, clock.now + 1)
    clock.now += 2
    told = [[one.sid for one in await node.store.expire_sessions()] for node in reversed(three.nodes)]
    assert told == [[], ["of b"], ["sid"]]


async def test_what_the_home_can_not_tell_any_more_another_one_does(three: Three) -> None:
    a, _, _ = three.journals
    clock = three.many.clock
    await a.detach_session(KEY, clock.now + 1)
    clock.now += 2
    assert await three.nodes[1].store.expire_sessions() == []
    three.nodes[0].kill()
    await settled(lambda: "a" not in three.nodes[1].nodes.others, "a is gone")
    assert [one.sid for one in await three.nodes[2].store.expire_sessions()] == ["sid"]
    assert await three.nodes[1].store.expire_sessions() == []


async def test_the_last_node_that_has_a_journal_open_removes_it(three: Three) -> None:
    await three.nodes[0].journal("/child")
    assert await three.nodes[0].store.drop_journal("/child")
    child = await three.nodes[0].journal("/child")
    other = await three.nodes[1].journal("/child")
    assert not await three.nodes[0].store.drop_journal("/child")
    await other.append(b"x")
    again = await three.nodes[0].journal("/child")
    assert (again.journal.top, again.journal is child.journal) == (1, False)
    await other.append(b"y")
    await in_step(again)
    assert (again.rows, child.rows) == ([(2, b"y")], [])
    assert not await three.nodes[0].store.drop_journal("/child")
    assert await three.nodes[1].store.drop_journal("/child")
    assert (await three.nodes[2].journal("/child")).journal.top == 0


async def test_what_a_node_has_written_before_it_lets_a_journal_go_reaches_the_others(three: Three) -> None:
    own, other = [await node.journal("/child") for node in three.nodes[:2]]
    writing = asyncio.ensure_future(own.append(b"last"))
    await asyncio.sleep(0)
    assert not await three.nodes[0].store.drop_journal("/child")
    assert await writing == 1
    await in_step(other)
    assert other.rows == [(1, b"last")]
