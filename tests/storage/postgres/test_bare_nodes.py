"""Nodes on a real PostgreSQL: they come and go, own consumers, and follow the engine's clock and history."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from tests.storage.postgres.bare_nodes import bare_nodes, close_node, kill_node, open_node, prepare
from tests.support.postgres import PostgresServer
from tests.support.waiting import until, until_async
from waypost.errors import StorageError
from waypost.storage.engine_state import Lag
from waypost.storage.postgres.driver import EngineGone, Refusal
from waypost.storage.postgres.nodes.history import Applied

CHECK = "SELECT waypost.node_check_1($1, $2)"


async def test_nodes_hear_of_each_other_and_of_a_goodbye(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        assert n0.told == [("n1", True)]
        assert [*n0.nodes.others] == ["n1"]
        assert n1.nodes.others == ("n0",)
        assert (n0.messages.known, n1.messages.known) == ({"n1": "127.0.0.1:1"}, {"n0": "127.0.0.1:1"})
        await close_node(n1)
        await until(lambda: n0.told == [("n1", True), ("n1", False)], "n0 hears of the goodbye")
        assert [*n0.nodes.others] == []
        assert n0.messages.known == {}


async def test_a_write_of_an_earlier_incarnation_is_refused(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 1) as (n0,):
        identity = n0.nodes.identity
        old = identity.incarnation
        await n0.value(CHECK, identity.id, old)
        news = await asyncio.gather(identity.renew(old), identity.renew(old))
        assert news[0] == news[1] > old
        assert await identity.renew(old) == news[0]
        with pytest.raises(Refusal) as refused:
            await n0.value(CHECK, identity.id, old)
        assert refused.value.sqlstate == "WP001"
        await n0.value(CHECK, identity.id, news[0])


async def test_a_declaration_waits_for_a_write_and_no_write_comes_after_it(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        identity = n1.nodes.identity
        old = identity.incarnation
        await n1.nodes._beats.stop()
        async with n1.pool.take() as writing:
            async with writing.transaction():
                counter = await n0.value("SELECT counter FROM waypost.beat WHERE node = $1", identity.id)
                # The server is still busy with it.
                write = asyncio.ensure_future(
                    writing.rows("SELECT waypost.node_check_1($1, $2), pg_sleep(1.5)", identity.id, old)
                )
                held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted"
                await until_async(lambda: n0.value(held, identity.id), bool, "the write has its lock")
                declaring = asyncio.ensure_future(
                    n0.value("SELECT waypost.declare_1($1, $2, $3, 60)", identity.id, old, counter)
                )
                done, _ = await asyncio.wait([write, declaring], return_when=asyncio.FIRST_COMPLETED)
                assert done == {write}
            assert await declaring is True
            with pytest.raises(Refusal):
                await writing.rows(CHECK, identity.id, old)
        await until(lambda: n0.told == [("n1", True), ("n1", False)], "it is gone")
        assert await identity.renew(old) > old + 1
        assert n1.messages.times_renewed == 1
        await until(lambda: n0.told[:3] == [("n1", True), ("n1", False), ("n1", True)], "it comes back")


async def test_what_a_dead_node_left_open_holds_up_nobody(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        identity = n1.nodes.identity
        old = identity.incarnation
        await n1.nodes._beats.stop()
        async with n1.pool.take() as writing:
            await writing.run("BEGIN")
            await writing.rows(CHECK, identity.id, old)
            await until(lambda: n0.told == [("n1", True), ("n1", False)], "it is gone")
            with pytest.raises(EngineGone):
                await writing.rows(CHECK, identity.id, old)


async def test_a_counter_that_has_risen_saves_a_node(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        identity = n1.nodes.identity
        assert await n0.value("SELECT waypost.declare_1($1, $2, 0, 60)", identity.id, identity.incarnation) is False
        await n1.value(CHECK, identity.id, identity.incarnation)


async def test_one_owner_of_a_consumer(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 3) as (n0, n1, n2):
        owners = await asyncio.gather(*(one.nodes.claim_consumer("q", "c") for one in (n0, n1, n2)))
        assert len(set(owners)) == 1
        owner = next(one for one in (n0, n1, n2) if one.name == owners[0])
        others = [one for one in (n0, n1, n2) if one is not owner]
        await owner.nodes.release_consumer("q", "c")
        everybody = [owner, *others]
        await until(lambda: all(one.freed_ == [("q", "c")] for one in everybody), "all hear that it is free")
        assert await others[0].nodes.claim_consumer("q", "c") == others[0].name
        assert await owner.nodes.claim_consumer("q", "c") == others[0].name


async def test_a_goodbye_frees_consumers_and_hands_the_upkeep_over(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        await until(lambda: n0.nodes.is_maintainer != n1.nodes.is_maintainer, "one does the upkeep")
        leader, other = (n0, n1) if n0.nodes.is_maintainer else (n1, n0)
        changes: list[bool] = []
        other.nodes.watch_upkeep(changes.append)
        assert await leader.nodes.claim_consumer("q", "c") == leader.name
        assert await other.nodes.claim_consumer("q", "c") == leader.name
        await close_node(leader)
        await until(lambda: other.nodes.is_maintainer, "the other one does the upkeep")
        await until(lambda: other.freed_ == [("q", "c")], "the consumer is free")
        assert changes == [True]
        assert other.nodes.state().upkeep == other.name


async def test_a_dead_node_loses_its_consumers_within_six_seconds(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        assert await n1.nodes.claim_consumer("q", "c") == "n1"
        assert await n0.nodes.claim_consumer("q", "c") == "n1"
        await kill_node(n1)
        await until(lambda: n0.freed_ == [("q", "c")], "the dead node's consumer is free")
        await until(lambda: n0.told[-1] == ("n1", False), "n1 is gone")
        assert await n0.nodes.claim_consumer("q", "c") == "n0"


async def test_a_first_node_after_a_crash_finds_the_dead_at_once(postgres_url: str) -> None:
    await prepare(postgres_url)
    n0 = await open_node(postgres_url, "n0")
    await n0.nodes.claim_consumer("q", "c")
    # The engine's own start may be so recent that it waits for those that are on their way back.
    await until_async(
        lambda: n0.value("SELECT pg_postmaster_start_time() < clock_timestamp() - interval '10 s'"), bool, "it is up"
    )
    era = n0.nodes.state().era
    await kill_node(n0)
    n1 = await open_node(postgres_url, "n1")
    try:
        assert n1.nodes.others == ()
        assert await n1.nodes.claim_consumer("q", "c") == "n1"
        assert n1.nodes.state().era != era
    finally:
        await close_node(n1)


async def test_connections_that_are_cut_kill_nobody(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 3) as nodes:
        incarnations = [one.nodes.identity.incarnation for one in nodes]
        end = time.monotonic() + 9.0
        while time.monotonic() < end:
            with contextlib.suppress(EngineGone, Refusal):
                await nodes[0].value(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5"
                )
            await asyncio.sleep(0.3)
        assert [one.nodes.identity.incarnation for one in nodes] == incarnations
        for one in nodes:
            assert [name for name, is_there in one.told if not is_there] == []
            assert len(one.nodes.others) == 2


async def test_a_claim_whose_answer_was_lost_blocks_nobody(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        blocker = asyncio.Event()

        async def block() -> None:
            async with n1.pool.take() as connection, connection.transaction():
                await connection.rows("INSERT INTO waypost.consumer_owner VALUES ('q', 'c', NULL, 0)")
                await connection.rows("NOTIFY waypost, 'n'")
                blocker.set()
                await until_async(
                    lambda: connection.value(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    ),
                    bool,
                    "the claim is cut",
                )

        blocking = asyncio.ensure_future(block())
        await blocker.wait()
        with pytest.raises(StorageError):
            await n0.nodes.claim_consumer("q", "c")
        await blocking
        assert await n1.nodes.claim_consumer("q", "c") == "n1"


async def test_the_stores_time_goes_on_when_the_engines_clock_is_set(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        await until(lambda: n0.nodes.is_maintainer or n1.nodes.is_maintainer, "one does the upkeep")
        before = n0.clock.now() - time.monotonic()
        body = await n0.value("SELECT prosrc FROM pg_proc WHERE proname = 'now_1'")
        language = await n0.value(
            "SELECT lanname FROM pg_language JOIN pg_proc ON prolang = pg_language.oid WHERE proname = 'now_1'"
        )
        stepped = body.replace("clock_timestamp()", "clock_timestamp() + interval '10 s'")
        assert stepped != body
        async with n0.pool.take() as connection:
            await connection.run(
                "CREATE OR REPLACE FUNCTION waypost.now_1() RETURNS float8 VOLATILE"
                f" LANGUAGE {language} AS $body${stepped}$body$"
            )

        async def apart() -> float:
            return abs(float(await n0.value("SELECT waypost.now_1()")) - before - time.monotonic())

        await until_async(apart, lambda s: s < 1.0, "the store's time is as before")
        assert abs(n0.clock.now() - time.monotonic() - before) < 1.0
        assert abs(n1.clock.now() - time.monotonic() - before) < 1.0
        for one in (n0, n1):
            assert [name for name, is_there in one.told if not is_there] == []


async def test_nodes_whose_clocks_are_an_hour_apart_have_one_time(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 1) as (n0,):
        ahead = await open_node(postgres_url, "ahead", wall_time=lambda: time.time() + 3600)
        try:
            assert abs(ahead.clock.now() - n0.clock.now()) < 2.0
            assert ahead.clock.ahead_s == 0.0
            assert await n0.nodes.claim_consumer("q", "c") == "n0"
            assert await ahead.nodes.claim_consumer("q", "c") == "n0"
            await until(lambda: [*n0.nodes.others] == ["ahead"], "they know each other")
            # For longer than it takes until a node is dead.
            beats = await n0.value("SELECT sum(counter) FROM waypost.beat")
            await until_async(
                lambda: n0.value("SELECT sum(counter) FROM waypost.beat"), lambda n: n >= beats + 8, "both beat on"
            )
            assert ahead.freed_ == []
            assert [name for name, is_there in n0.told if not is_there] == []
        finally:
            await close_node(ahead)


async def test_other_options_of_another_node_are_said_once(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await prepare(postgres_url)
    first = await open_node(postgres_url, "first", options={"orphan_ttl_s": 60, "same": 1})
    second = await open_node(postgres_url, "second", options={"orphan_ttl_s": 90, "same": 1})
    await close_node(second)
    await close_node(first)
    (said,) = [one.getMessage() for one in caplog.records if "other options" in one.getMessage()]
    assert "orphan_ttl_s 60 (here 90)" in said
    assert "same" not in said


async def test_too_few_connections_are_said(own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    own_postgres.configuration["max_connections"] = "12"
    await asyncio.to_thread(own_postgres.restart)
    await prepare(own_postgres.url())
    first = await open_node(own_postgres.url(), "first")
    assert "max_connections" not in caplog.text
    second = await open_node(own_postgres.url(), "second")
    assert "raise max_connections" in caplog.text
    await close_node(second)
    await close_node(first)


async def test_lives_stand_still_while_nobody_beats(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 1) as (n0,):
        before = await n0.value("SELECT waypost.now_1() - waypost.lives_1()")
        # As if the engine had been away: the newest beat is 104 s old.
        await n0.value("UPDATE waypost.beat SET at = at - 104")
        still = await n0.value("SELECT waypost.now_1() - waypost.lives_1()")
        assert still - before > 90.0
        n0.nodes.noticed()
        await until_async(
            lambda: n0.value("SELECT total_s FROM waypost.standstill"), lambda s: s > 90, "it is added up"
        )
        after = await n0.value("SELECT waypost.now_1() - waypost.lives_1()")
        assert after - before > 90.0


async def test_a_node_too_far_behind_hands_over_and_is_not_ready(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        assert await n0.nodes.claim_consumer("q", "c") == "n0"
        assert await n1.nodes.claim_consumer("q", "c") == "n0"
        assert n0.nodes.state().is_ready
        n0.lag = Lag(100_000, 60.0)
        n0.nodes.noticed()
        await until(lambda: n1.freed_ == [("q", "c")], "the other one may have it")
        assert n0.freed_ == [("q", "c")]
        assert not n0.nodes.state().is_ready
        with pytest.raises(StorageError, match="too far behind"):
            await n0.nodes.claim_consumer("q", "c")
        assert await n1.nodes.claim_consumer("q", "c") == "n1"
        n0.lag = Lag()
        n0.nodes.noticed()
        await until(lambda: n0.nodes.state().is_ready, "it is ready again")
        assert await until_async(lambda: _claim(n0), bool, "it claims again") == "n1"


async def _claim(node: object) -> str:
    try:
        return await node.nodes.claim_consumer("q", "c")  # type: ignore[attr-defined, no-any-return]
    except StorageError:
        return ""


# -- the engine's history ----------------------------------------------------------------------------------------


async def test_the_same_history_is_the_same_era(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        assert n0.nodes.state().era == n1.nodes.state().era != ""
        await _reconnect(n0)
        assert n0.eras == []


@pytest.mark.parametrize("noted", ["another 00000001", None])
async def test_another_history_begins_an_era(postgres_url: str, noted: str | None) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        known = n0.nodes.state().era
        history = await n0.value("SELECT waypost.history_1()")
        await n0.value(
            "UPDATE waypost.setting SET value = $1 WHERE key = 'history'", noted or history.split()[0] + " 00000099"
        )
        await asyncio.gather(_reconnect(n0), _reconnect(n1))
        assert n0.eras == n1.eras != []
        assert len(n0.eras) == 1
        assert n0.eras[0] != known
        await _reconnect(n0)
        assert len(n0.eras) == 1


async def test_a_database_that_does_not_know_the_era_is_an_older_copy(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 2) as (n0, n1):
        await n0.value("SELECT waypost.restored_1()")
        await asyncio.gather(_reconnect(n0), _reconnect(n1))
        assert n0.eras == n1.eras
        await n0.value("DELETE FROM waypost.era WHERE n = (SELECT max(n) FROM waypost.era)")
        await asyncio.gather(_reconnect(n0), _reconnect(n1))
        assert n0.eras == n1.eras
        assert len(set(n0.eras)) == 2
        assert "older copy" in await n0.value("SELECT reason FROM waypost.era ORDER BY n DESC LIMIT 1")


async def test_an_upgrade_is_adopted(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 1) as (n0,):
        await n0.value("UPDATE waypost.setting SET value = 'another 00000001' WHERE key = 'history'")
        await n0.value("SELECT waypost.adopt_1()")
        await _reconnect(n0)
        assert n0.eras == []


async def test_rows_that_the_engine_has_not_got_begin_an_era(postgres_url: str) -> None:
    async with bare_nodes(postgres_url, 1) as (n0,):
        if await n0.value("SELECT to_regclass('waypost.log')") is None:
            pytest.skip("there are no journals yet")
        n0.applied = [Applied(1, 7, 1, 1, 1)]
        await _reconnect(n0)
        assert len(n0.eras) == 1
        assert "lost" in await n0.value("SELECT reason FROM waypost.era ORDER BY n DESC LIMIT 1")


async def _reconnect(node: object) -> None:
    async with node.pool.take() as connection:  # type: ignore[attr-defined]
        await node.nodes.admit(connection)  # type: ignore[attr-defined]
