"""Three servers on a PostgreSQL that fails over to a standby, or is put back from a copy, with official clients."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.interop.peer import Client, Peer
from tests.interop.publishing import more, publishing
from tests.interop.test_nodes import Service, check, listen, service
from tests.support.line import Line
from tests.support.postgres import PostgresServer
from tests.support.server_process import free_port
from tests.support.waiting import until

pytestmark = [pytest.mark.node, pytest.mark.asyncio, pytest.mark.long, pytest.mark.timeout(300)]

_AFTER_S = 60.0


@contextmanager
def copy_of(primary: PostgresServer, source_port: int, *options: str) -> Iterator[PostgresServer]:
    """Copy a running server, and remove the copy in the end."""
    folder = primary.folder.parent / f"waypost-pg-{secrets.token_hex(4)}"
    folder.mkdir()
    copy = PostgresServer(folder, free_port(), primary.configuration)
    copy.own(folder)
    source = f"host=127.0.0.1 port={source_port} user=postgres application_name=standby"
    copy.run("pg_basebackup", "--checkpoint=fast", f"--pgdata={copy.data}", f"--dbname={source}", *options)
    try:
        yield copy
    finally:
        copy.remove()


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[tuple[PostgresServer, Line]]:
    """Start a standby, which follows its primary over a line."""
    with Line("127.0.0.1", primary.port) as line, copy_of(primary, line.port, "--write-recovery-conf") as standby:
        standby.start()
        yield standby, line


def follows(primary: PostgresServer, state: str) -> bool:
    """Return whether the standby of a server is connected, as ``sync`` or ``async``."""
    return primary.execute("SELECT sync_state FROM pg_stat_replication") == [(state,)]


async def fail_over(one: Service, standby: PostgresServer) -> None:
    """Kill the primary, promote the standby, and lead the nodes there."""
    one.engine.kill()
    standby.execute("SELECT pg_promote()")
    lead(one, standby)


def lead(one: Service, engine: PostgresServer) -> None:
    for node in one.nodes:
        node.line.lead_to(engine.port)


def told(listener: Client, since: int) -> bool:
    """Return whether a client was told that it may have missed something."""
    return any(not state.recovered for state in listener.connects[since:])


async def all_are_told_and_go_on(one: Service, peer: Peer, listeners: Sequence[Client], since: Sequence[int]) -> None:
    """Fail unless each client is told that its history is lost, and all of them get all that comes later, once."""
    for listener, connects in zip(listeners, since, strict=True):
        await until(lambda listener=listener, connects=connects: told(listener, connects), "it is told", _AFTER_S)  # type: ignore[misc]
    newcomer = await peer.client(one.front.url, transports=("websocket",))
    await newcomer.connected()
    async with publishing(newcomer) as [publisher]:
        for listener in listeners:
            await more(listener, 20)
    for listener in listeners:
        await listener.hears("news", publisher.name, publisher.attempted - 1)
        numbers = [event.args[1] for event in listener.received["news"] if event.args[0] == publisher.name]
        assert numbers == sorted({*numbers})
        assert {*publisher.accepted} <= {*numbers}


async def test_a_synchronous_failover_loses_nothing_and_nobody_is_told(
    own_postgres: PostgresServer, tmp_path: Path, rng: random.Random
) -> None:
    with standby_of(own_postgres) as (standby, _):
        own_postgres.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        own_postgres.execute("SELECT pg_reload_conf()")
        await until(lambda: follows(own_postgres, "sync"), "the standby is synchronous")
        async with service(own_postgres, tmp_path, rng) as one, Peer.start() as peer:
            listeners = await listen(peer, one)
            async with publishing(*listeners[:3]) as publishers:
                await more(listeners[-1], 200)
                await fail_over(one, standby)
                await more(listeners[-1], 100)
            await check(publishers, listeners, in_order=False)
            await peer.leave_all()


async def test_an_asynchronous_failover_that_lags_is_told_to_all(
    own_postgres: PostgresServer, tmp_path: Path, rng: random.Random
) -> None:
    with standby_of(own_postgres) as (standby, line):
        await until(lambda: follows(own_postgres, "async"), "the standby follows")
        async with service(own_postgres, tmp_path, rng) as one, Peer.start() as peer:
            listeners = await listen(peer, one)
            async with publishing(*listeners[:3]):
                await more(listeners[-1], 50)
                line.take_down()
                await more(listeners[-1], 100)
                since = [len(listener.connects) for listener in listeners]
                await fail_over(one, standby)
                await asyncio.sleep(1)
            await all_are_told_and_go_on(one, peer, listeners, since)
            await peer.leave_all()


async def test_a_copy_that_is_put_under_running_servers_is_told_to_all(
    own_postgres: PostgresServer, tmp_path: Path, rng: random.Random
) -> None:
    with ExitStack() as copies:
        async with service(own_postgres, tmp_path, rng) as one, Peer.start() as peer:
            listeners = await listen(peer, one)
            async with publishing(*listeners[:3]):
                await more(listeners[-1], 50)
                copy = copies.enter_context(copy_of(own_postgres, own_postgres.port))
                await more(listeners[-1], 100)
                since = [len(listener.connects) for listener in listeners]
                own_postgres.kill()
                copy.start()
                lead(one, copy)
                await all_are_told_and_go_on(one, peer, listeners, since)
            await peer.leave_all()


async def test_a_copy_that_is_put_back_while_all_servers_are_down_is_told_to_all(
    own_postgres: PostgresServer, tmp_path: Path, rng: random.Random
) -> None:
    with ExitStack() as copies:
        async with service(own_postgres, tmp_path, rng) as one, Peer.start() as peer:
            listeners = await listen(peer, one)
            async with publishing(*listeners[:3]):
                await more(listeners[-1], 50)
                copy = copies.enter_context(copy_of(own_postgres, own_postgres.port))
                await more(listeners[-1], 100)
                for listener in listeners:
                    await more(listener, 1)
                since = [len(listener.connects) for listener in listeners]
                for node in one.nodes:
                    await node.server.stop()
                own_postgres.stop()
                copy.start()
                lead(one, copy)
                for node in one.nodes:
                    await node.server.start()
                await all_are_told_and_go_on(one, peer, listeners, since)
            await peer.leave_all()
