"""Connections that are forwarded to a node on another machine: who is between, and what nobody can reach."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import waypost
from tests.server.model_client import hub_of
from tests.support.mesh import Mesh, Places, Worker, serving_nodes
from tests.support.raw import open_polling, request, target, websocket
from tests.support.waiting import until
from tests.transports.handover.test_handing_over import answer, joined, kept
from waypost.storage.postgres.mesh.dialing import Person, dial
from waypost.storage.postgres.mesh.handshake import CONNECTION
from waypost.transports.handover.far_frames import Back, Data, Last, frame

_ID = "abcdefghijklmnopqrst"


def connections(node: Worker) -> int:
    """Return how many connections a node's server has open."""
    return len(node.server.server_state.connections)


async def test_never_is_more_than_one_node_between_a_client_and_its_server() -> None:
    async with serving_nodes(4) as nodes, contextlib.AsyncExitStack() as ends:
        sessions = [await ends.enter_async_context(joined(node)) for node in nodes]
        await until(lambda: not any(map(connections, nodes)), "those connections are closed")
        reader, writer = await asyncio.open_connection("127.0.0.1", nodes[0].port)
        for turn in range(3):
            for number, raw in enumerate(sessions, 1):
                writer.write(kept("POST", target(sid=raw.sid), b'42%d["worker"]' % turn))
                assert await answer(reader) == b"ok"
                writer.write(kept("GET", target(sid=raw.sid)))
                assert await answer(reader) == b"43%d[%d]" % (turn, number)
                expected = [1 if at in (1, number) else 0 for at in range(1, 5)]
                await until(lambda expected=expected: [*map(connections, nodes)] == expected, str(expected))  # type: ignore[misc]
        writer.close()
        await until(lambda: not any(map(connections, nodes)), "its end reaches them")


async def test_an_end_of_the_server_reaches_the_client() -> None:
    async with (
        serving_nodes(2) as (home, other),
        joined(home) as raw,
        websocket(other.port, {"sid": raw.sid}) as connection,
    ):
        await connection.send("2probe")
        assert await connection.recv() == "3probe"
        await raw.poll()
        await connection.send("5")
        await connection.send('421["echo","' + "x" * 900_000 + '"]')
        assert len(await connection.recv()) > 900_000
        (one,) = hub_of(home.io).engine.connections()
        assert one.transport == "websocket"
        one.close("forced server close")
        async with asyncio.timeout(60):
            await connection.wait_closed()


async def test_workers_of_one_parent_that_are_nodes_hand_connections_over_to_each_other() -> None:
    async with serving_nodes(3, mesh=Mesh()) as (home, other, third), joined(home) as raw:
        await until(lambda: len(other.handover._nodes) == 2, "they know which nodes they are")
        raw.port = other.port
        await raw.send('421["worker"]')
        raw.port = third.port
        assert await raw.receive() == "431[1]"
        assert other.passed == (1, 1, 0, 0)
        assert third.passed == (1, 1, 0, 0)


async def test_a_number_that_nobody_has_is_unknown_and_looked_up_once_in_a_while() -> None:
    places = Places()
    async with serving_nodes(2, places=places) as (_, other):
        for _ in range(20):
            refused = await request(other.port, "GET", target(sid=f"{_ID}.7"))
            assert (refused.status, refused.code) == (400, 1)
        assert places.looked.count(7) < 20
        refused = await request(other.port, "GET", target(sid=f"{_ID}.2147483648"))
        assert (refused.status, refused.code) == (400, 1)


async def test_a_dead_node_is_unknown_a_living_one_that_is_not_reached_is_unavailable() -> None:
    places = Places()
    async with serving_nodes(2, places=places) as (home, other), joined(home) as raw:
        raw.port = other.port
        await raw.send('421["worker"]')
        assert await raw.receive() == "431[1]"
        links = places.found[1]
        home.handover._ways._mesh._listener.close()  # type: ignore[union-attr]
        refused = await raw.poll()
        assert refused.status == 503
        del places.found[1]
        refused = await raw.poll()
        assert (refused.status, refused.code) == (400, 1)
        # Its address is another node's by now.
        places.found[1] = (links[0], places.found[2][1])
        await asyncio.sleep(0.6)
        refused = await raw.poll()
        assert refused.status == 503
        assert other.passed[3] == 3


async def test_a_refusal_of_an_unknown_id_is_one_that_a_page_of_another_site_can_read() -> None:
    async with serving_nodes(2, make=_with_pages) as (_, other):
        headers = {"Origin": "https://shop.example"}
        refused = await request(other.port, "GET", target(sid=f"{_ID}.9"), headers)
        assert (refused.status, refused.code) == (400, 1)
        assert refused.headers["access-control-allow-origin"] == "https://shop.example"


def _with_pages() -> waypost.Server:
    return waypost.Server(drain_s=0.0, cors_allowed_origins=["https://shop.example"])


@pytest.mark.parametrize("bad", [frame(Data(b"x")), frame(Last()), frame(Back(b"")), b"\xff" * 100])
async def test_a_node_that_sends_what_none_sends_loses_that_connection_only(bad: bytes) -> None:
    places = Places()
    async with serving_nodes(2, places=places) as (home, other), joined(home) as raw:
        connection, _ = await dial(Person("n7", b"secret"), *places.found[1], CONNECTION)
        connection.transport.write(bad)
        connection.transport.resume_reading()
        async with asyncio.timeout(60):
            await connection.lost
        raw.port = other.port
        await raw.send('421["worker"]')
        assert await raw.receive() == "431[1]"


async def test_clients_that_go_while_the_way_is_searched_leave_nothing_behind() -> None:
    places = Places()
    async with serving_nodes(2, places=places) as (home, other), open_polling(home.port) as raw:
        find, asked, may_answer = places.find, asyncio.Event(), asyncio.Event()

        async def slow(number: int) -> tuple[str, str] | None:
            asked.set()
            await may_answer.wait()
            return await find(number)

        other.handover._ways._find = slow  # type: ignore[union-attr]
        _, writer = await asyncio.open_connection("127.0.0.1", other.port)
        writer.write(kept("GET", target(sid=raw.sid)))
        await asked.wait()
        writer.transport.abort()
        may_answer.set()
        await until(lambda: not other.server.server_state.tasks, "the search has ended")
        await until(lambda: not connections(home) and not connections(other), "nothing is left")
