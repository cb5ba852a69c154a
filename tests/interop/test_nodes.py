"""Three servers on one PostgreSQL, official clients that hop among them, and faults of all kinds."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.peer import Client, Peer
from tests.interop.publishing import ROOM, Publisher, more, publishing
from tests.support.line import Line, Way
from tests.support.postgres import PostgresServer
from tests.support.server_process import HEARTBEAT, ServerProcess
from tests.support.spread import Spread

pytestmark = [pytest.mark.node, pytest.mark.asyncio, pytest.mark.long, pytest.mark.timeout(900)]

_SECONDS_VARIABLE = "WAYPOST_TEST_FAULT_SECONDS"
_NODES = 3
_LISTENERS = 6
_AFTER_S = 90.0


@dataclass
class Node:
    """One server, and its line to PostgreSQL."""

    server: ServerProcess
    line: Line


@dataclass
class Service:
    """Three servers on one PostgreSQL.

    Attributes:
        engine: The PostgreSQL server.
        nodes: The servers.
        front: Gives each connection of a client to one of them.
        rng: Chance.
    """

    engine: PostgresServer
    nodes: list[Node]
    front: Spread
    rng: random.Random

    def one(self) -> Node:
        """Return a node by chance."""
        return self.rng.choice(self.nodes)


@asynccontextmanager
async def service(engine: PostgresServer, tmp_path: Path, rng: random.Random) -> AsyncIterator[Service]:
    """Serve by three nodes, each with a line of its own to PostgreSQL, in an empty database."""
    database = engine.create_database()
    options = {"drain_s": 0.2, **HEARTBEAT}
    async with AsyncExitStack() as stack:
        nodes = []
        for index in range(_NODES):
            line = stack.enter_context(Line("127.0.0.1", engine.port))
            store = f"postgresql://postgres@127.0.0.1:{line.port}/{database}"
            node = Node(ServerProcess.waypost(tmp_path / f"node-{index}.log", store, options), line)
            stack.push_async_callback(node.server.kill)
            await node.server.start()
            nodes.append(node)
        front = await stack.enter_async_context(Spread.over([node.server.port for node in nodes], rng))
        yield Service(engine, nodes, front, rng)


# -- faults --------------------------------------------------------------------------------------------------


async def kill_a_node(one: Service) -> None:
    await one.one().server.restart("kill")


async def stop_a_node(one: Service) -> None:
    await one.one().server.restart("stop")


async def freeze_a_node(one: Service, seconds: float) -> None:
    pid = one.one().server.pid
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


async def freeze_shortly(one: Service) -> None:
    await freeze_a_node(one, 3)


async def freeze_for_long(one: Service) -> None:
    await freeze_a_node(one, 10)


async def break_a_line(one: Service) -> None:
    one.one().line.reset()


async def freeze_a_line(one: Service, seconds: float, *ways: Way) -> None:
    line = one.one().line
    line.freeze(*ways)
    await asyncio.sleep(seconds)
    line.thaw()


async def cut_a_line(one: Service) -> None:
    await freeze_a_line(one, one.rng.choice([1.0, 3.0, 10.0]))


async def cut_a_line_one_way(one: Service) -> None:
    await freeze_a_line(one, one.rng.choice([1.0, 3.0, 10.0]), one.rng.choice([*Way]))


async def take_a_line_down(one: Service) -> None:
    line = one.one().line
    line.take_down()
    await asyncio.sleep(one.rng.choice([0.5, 2.0, 9.0]))
    line.put_up()


async def end_a_backend(one: Service) -> None:
    """As an administrator does it, or a failover: any connection of any node, at any moment."""
    one.engine.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'waypost %' "
        "ORDER BY random() LIMIT 2"
    )


async def kill_the_engine(one: Service) -> None:
    one.engine.kill()
    one.engine.start()


async def stop_the_engine_at_once(one: Service) -> None:
    one.engine.restart("immediate")


async def take_the_engine_away(one: Service) -> None:
    one.engine.stop()
    await asyncio.sleep(one.rng.choice([1.0, 8.0]))
    one.engine.start()


Fault = Callable[[Service], Awaitable[None]]

_ORDERLY: Sequence[Fault] = (kill_a_node, stop_a_node, break_a_line, end_a_backend)
"""After these, what a client has sent comes before what it sends later."""

_OTHERS: Sequence[Fault] = (
    freeze_shortly,
    freeze_for_long,
    cut_a_line,
    cut_a_line_one_way,
    take_a_line_down,
    kill_the_engine,
    stop_the_engine_at_once,
    take_the_engine_away,
)
"""After these, a server may go on with events of a client that has given up on them, and is elsewhere."""


# -- stories -------------------------------------------------------------------------------------------------


async def listen(peer: Peer, one: Service) -> list[Client]:
    modes = (("websocket",), ("polling",), ("polling", "websocket"))
    clients = [
        await peer.client(one.front.url, transports=modes[index % 3], auth={"rooms": [ROOM]})
        for index in range(_LISTENERS)
    ]
    for client in clients:
        await client.connected()
    return clients


async def check(publishers: Sequence[Publisher], listeners: Sequence[Client], *, in_order: bool) -> None:
    """Fail unless each listener recovered each time and got all once, and all of them in one order."""
    for listener in listeners:
        for publisher in publishers:
            await listener.hears("news", publisher.name, publisher.attempted - 1)
        assert all(state.recovered for state in listener.connects[1:]), listener.connects
        offsets = [event.offset for event in listener.received["news"]]
        assert len({*offsets}) == len(offsets), "an offset was delivered twice"
        for publisher in publishers:
            numbers = [event.args[1] for event in listener.received["news"] if event.args[0] == publisher.name]
            assert len({*numbers}) == len(numbers), "an event was doubled"
            lost = {*publisher.accepted} - {*numbers}
            assert not lost, f"accepted, but not delivered: {sorted(lost)[:20]}"
            assert not in_order or numbers == sorted(numbers)
    orders = [listener.args_of("news") for listener in listeners]
    assert all(order == orders[0] for order in orders)


async def story(
    engine: PostgresServer, tmp_path: Path, rng: random.Random, faults: Sequence[Fault], *, in_order: bool
) -> None:
    """Publish, listen and hop while faults happen."""
    async with service(engine, tmp_path, rng) as one, Peer.start() as peer:
        listeners = await listen(peer, one)
        async with publishing(*listeners[:3]) as publishers:
            await more(listeners[-1], 30)
            ends_at = time.monotonic() + float(os.environ.get(_SECONDS_VARIABLE, "20"))
            while time.monotonic() < ends_at:
                await rng.choice(faults)(one)
                # A client that hops comes back within a second; some are cut again before that.
                await asyncio.sleep(rng.choice([0.3, 1.0, 3.0]))
            before = len(listeners[-1].received["news"])
            await listeners[-1].gets("news", before + 20, timeout_s=_AFTER_S)
        await check(publishers, listeners, in_order=in_order)
        for node in one.nodes:
            if not in_order:
                # Handlers fail while the engine can't be reached, and clients are not told of an ack.
                node.server.tracebacks_allowed = node.server.log().count("the handler of 'publish' failed")
            node.server.check_log()
        await peer.leave_all()


@pytest.mark.parametrize("fault", [*_ORDERLY, *_OTHERS], ids=lambda fault: fault.__name__)
async def test_nothing_is_lost_or_doubled_over_a_fault(
    fault: Fault, own_postgres: PostgresServer, tmp_path: Path, rng: random.Random
) -> None:
    await story(own_postgres, tmp_path, rng, [fault], in_order=fault in _ORDERLY)


async def test_nothing_is_lost_or_doubled_over_faults_of_all_kinds(
    own_postgres: PostgresServer, tmp_path: Path, rng: random.Random
) -> None:
    await story(own_postgres, tmp_path, rng, [*_ORDERLY, *_OTHERS], in_order=False)
