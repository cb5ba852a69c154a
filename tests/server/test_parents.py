"""Dynamic namespaces: patterns and functions, parents whose operations reach their children, cleanup, limits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from waypost.server.basics.environment import Environment

MakeServer = Callable[..., waypost.Server]
TENANTS = re.compile(r"/tenant-\d+")


@pytest.fixture
def io() -> waypost.Server:
    return waypost.Server(drain_s=0.0, recovery=None)


def names(io: waypost.Server) -> set[str]:
    return {namespace.name for namespace in hub_of(io).directory}


async def connected(io: waypost.Server, namespace: str, auth: str = "") -> ModelClient:
    client = ModelClient(io, namespace)
    await client.connect(auth)
    return client


async def test_a_pattern_takes_whole_names_only(io: waypost.Server) -> None:
    io.of(TENANTS)
    async with running(io):
        assert (await connected(io, "/tenant-7")).connected
        for name in ("/tenant-", "/tenant-7/admin", "/my/tenant-7", "/tenant-7\n"):
            assert (await connected(io, name)).refusal == {"message": "Invalid namespace"}


async def test_a_function_decides_for_every_client(io: waypost.Server) -> None:
    asked: list[tuple[str, Any]] = []

    @io.of
    async def tenants(name: str, auth: dict[str, Any]) -> bool:
        asked.append((name, auth))
        return auth.get("token") == "good"

    async with running(io):
        assert (await connected(io, "/seven", "good")).connected
        assert (await connected(io, "/seven", "bad")).refusal == {"message": "Invalid namespace"}
        assert asked == [("/seven", {"token": "good"}), ("/seven", {"token": "bad"})]


async def test_a_function_may_be_plain_may_refuse_and_may_fail(
    io: waypost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    @io.of
    def tenants(name: str, auth: Any) -> bool:
        if name == "/full":
            raise waypost.ConnectionRefused("no seats", {"seats": 0})
        if name == "/broken":
            raise RuntimeError("secret")
        return name == "/open"

    async with running(io):
        assert (await connected(io, "/open")).connected
        assert (await connected(io, "/full")).refusal == {"message": "no seats", "data": {"seats": 0}}
        assert (await connected(io, "/broken")).refusal == {"message": "Invalid namespace"}
        assert "secret" in caplog.text


async def test_names_win_over_parents_and_the_first_parent_wins(io: waypost.Server) -> None:
    came: list[str] = []

    def note(where: str) -> Callable[[waypost.Socket], Any]:
        async def connect(socket: waypost.Socket) -> None:
            came.append(where)

        return connect

    io.of("/tenant-1").on("connect", note("named"))
    io.of(TENANTS).on("connect", note("first"))
    io.of(re.compile("/.*")).on("connect", note("second"))
    async with running(io):
        for name in ("/tenant-1", "/tenant-2", "/other"):
            await connected(io, name)
    assert came == ["named", "first", "second"]


async def test_what_is_registered_later_counts_for_children_that_are_there(io: waypost.Server) -> None:
    tenants = io.of(TENANTS)
    passed: list[str] = []

    async with running(io):
        first = await connected(io, "/tenant-1")

        @tenants.event
        async def where(socket: waypost.Socket) -> str:
            return socket.namespace

        @tenants.use
        async def gate(socket: waypost.Socket) -> None:
            passed.append(f"parent of {socket.namespace}")

        @tenants.of("/tenant-1").use
        async def own_gate(socket: waypost.Socket) -> None:
            passed.append(f"own of {socket.namespace}")

        assert await first.call("where") == ["/tenant-1"]
        await connected(io, "/tenant-1")
        await connected(io, "/tenant-2")
        assert passed == ["parent of /tenant-1", "own of /tenant-1", "parent of /tenant-2"]


async def test_a_child_may_have_handlers_of_its_own(io: waypost.Server) -> None:
    tenants = io.of(TENANTS)
    made: list[str] = []

    @tenants.on("new_namespace")
    async def prepare(namespace: waypost.Namespace) -> None:
        await asyncio.sleep(0)
        made.append(namespace.name)

        @namespace.event
        async def who(socket: waypost.Socket) -> str:
            return f"own of {namespace.name}"

    @tenants.event
    async def who(socket: waypost.Socket) -> str:
        return "parent's"

    async with running(io):
        clients = [ModelClient(io, "/tenant-1"), ModelClient(io, "/tenant-1"), ModelClient(io, "/tenant-2")]
        for client in clients:
            client.open()
        await until(lambda: all(client.connected for client in clients))
        assert [await client.call("who") for client in clients] == [
            ["own of /tenant-1"],
            ["own of /tenant-1"],
            ["own of /tenant-2"],
        ]
        assert made == ["/tenant-1", "/tenant-2"]


async def test_no_client_calls_what_the_server_calls(io: waypost.Server) -> None:
    called: list[Any] = []
    tenants = io.of(TENANTS)
    tenants.on("new_namespace", called.append)
    tenants.on("session_expired", called.append)

    async with running(io):
        client = await connected(io, "/tenant-1")
        await until(lambda: len(called) == 1)
        client.send('21["new_namespace"]')
        client.send('22["session_expired"]')
        tenants.on("last", lambda socket: "last")
        assert await client.call("last", ack_id=3) == ["last"]
        assert len(called) == 1


async def test_operations_of_a_parent_reach_all_children() -> None:
    io = waypost.Server(drain_s=0.0)
    tenants = io.of(TENANTS)

    @tenants.event
    async def join(socket: waypost.Socket, room: str) -> str:
        await socket.join(room)
        return room

    async with running(io):
        one, other, two = [await connected(io, f"/tenant-{number}") for number in (1, 1, 2)]
        await one.call("join", "a")
        await two.call("join", "a")
        await tenants.emit("all", b"bytes")
        await tenants.to("a").emit("in a")
        await tenants.except_("a").emit("not in a")
        await tenants.volatile.emit("now")
        await tenants.to("a").sockets_join("b")
        await tenants.to("b").emit("in b")
        await tenants.sockets_leave("a")
        await tenants.to("a").emit("nobody")
        assert await one.wait_for(4) == [["all", b"bytes"], ["in a"], ["now"], ["in b"]]
        assert await two.wait_for(4) == [["all", b"bytes"], ["in a"], ["now"], ["in b"]]
        assert await other.wait_for(3) == [["all", b"bytes"], ["not in a"], ["now"]]


@pytest.fixture(params=["memory", "sqlite"])
def make_server(request: pytest.FixtureRequest, tmp_path: Path) -> MakeServer:
    spec = "memory:" if request.param == "memory" else str(tmp_path / "store.db")
    return lambda **options: waypost.Server(**{"store": spec, "drain_s": 0.0, **options})


async def test_an_emit_of_the_parent_reaches_those_who_are_away(make_server: MakeServer) -> None:
    io = make_server()
    tenants = io.of(TENANTS)
    async with running(io):
        client = await connected(io, "/tenant-1")
        await client.cut()
        await hub_of(io).keep_up()
        assert "/tenant-1" in names(io)
        await tenants.emit("news", 1)
        await client.connect()
        assert client.recovered
        assert await client.wait_for(1) == [["news", 1]]


@pytest.mark.parametrize("by", ["pattern", "function"])
async def test_an_emit_of_the_parent_reaches_those_who_return_after_a_restart(tmp_path: Path, by: str) -> None:
    expired: list[str] = []
    made: list[str] = []

    def server() -> tuple[waypost.Server, Any]:
        io = waypost.Server(store=str(tmp_path / "store.db"), drain_s=0.0)
        tenants = io.of(TENANTS if by == "pattern" else lambda name, auth: name.startswith("/tenant-"))
        tenants.on("session_expired", lambda session: expired.append(session.namespace))
        tenants.on("new_namespace", lambda namespace: made.append(namespace.name))
        return io, tenants

    first, _ = server()
    async with running(first):
        client = await connected(first, "/tenant-1")
        (await connected(first, "/tenant-2")).send("1")
        await until(lambda: len(first.of("/tenant-2")._core.index if by == "function" else ()) == 0)
    second, tenants = server()
    async with running(second):
        assert "/tenant-1" in names(second)
        await tenants.emit("news", 1)
        client.hub = hub_of(second)
        await client.connect()
        assert client.recovered
        assert await client.wait_for(1) == [["news", 1]]
        assert made.count("/tenant-1") == 2


async def test_a_child_that_nobody_needs_is_forgotten(make_server: MakeServer) -> None:
    io = make_server()
    tenants = io.of(TENANTS)
    async with running(io):
        gone, away, here = [await connected(io, f"/tenant-{number}") for number in (1, 2, 3)]
        tenants.of("/tenant-4")
        gone.send("1")
        await away.cut()
        await until(lambda: hub_of(io).directory.get("/tenant-1").is_idle)  # type: ignore[union-attr]
        await hub_of(io).keep_up()
        assert names(io) == {"/", "/tenant-2", "/tenant-3", "/tenant-4"}
        await tenants.emit("news")
        await away.connect()
        assert away.recovered
        for client in (away, here):
            assert await client.wait_for(1) == [["news"]]


async def test_a_child_that_is_forgotten_leaves_nothing_in_the_store(make_server: MakeServer) -> None:
    io = make_server()
    tenants = io.of(TENANTS)
    held: list[waypost.Namespace] = []
    tenants.on("new_namespace", held.append)
    async with running(io):
        for _ in range(3):
            client = await connected(io, "/tenant-1")
            await tenants.emit("news")
            assert await client.wait_for(1) == [["news"]]
            client.send("1")
            await until(lambda: held[0]._core.is_idle)
            await asyncio.gather(hub_of(io).keep_up(), held[0].emit("to nobody"), connected(io, "/tenant-2"))
            assert "/tenant-1" not in names(io)
        assert len(held) == 2
        # Who holds it can still emit, and who comes back later is told that all began anew.
        await held[0].emit("to nobody")
        await client.connect()
        assert client.answer["reason"] == "generation"


async def test_a_child_is_forgotten_when_its_last_session_has_expired() -> None:
    now = 1000.0
    environment = Environment(wall_time=lambda: now)
    io = waypost.Server(drain_s=0.0, environment=environment)
    expired: list[str] = []
    io.of(TENANTS).on("session_expired", lambda session: expired.append(session.namespace))
    async with running(io):
        away = await connected(io, "/tenant-1")
        await away.cut()
        await until(lambda: hub_of(io).directory.get("/tenant-1").is_idle)  # type: ignore[union-attr]
        now += 4000
        await hub_of(io).keep_up()
        assert expired == ["/tenant-1"]
        assert names(io) == {"/"}
        await away.connect()
        assert away.answer["reason"] == "unknown session"


async def test_a_child_that_the_application_holds_is_the_same_when_clients_return(io: waypost.Server) -> None:
    tenants = io.of(TENANTS)
    held: list[waypost.Namespace] = []
    tenants.on("new_namespace", held.append)
    async with running(io):
        client = await connected(io, "/tenant-1")
        client.send("1")
        await until(lambda: held[0]._core.is_idle)
        await hub_of(io).keep_up()
        assert names(io) == {"/"}
        client = await connected(io, "/tenant-1")
        await held[0].emit("news")
        assert await client.wait_for(1) == [["news"]]
        assert len(held) == 1


async def test_children_stay_if_they_are_to(io: waypost.Server) -> None:
    io = waypost.Server(drain_s=0.0, recovery=None, cleanup_empty_child_namespaces=False)
    io.of(TENANTS)
    async with running(io):
        client = await connected(io, "/tenant-1")
        await client.cut()
        await hub_of(io).keep_up()
        assert names(io) == {"/", "/tenant-1"}


async def test_there_are_only_so_many_children() -> None:
    io = waypost.Server(drain_s=0.0, recovery=None, max_child_namespaces=2)
    io.of(TENANTS)
    async with running(io):
        first = await connected(io, "/tenant-1")
        await connected(io, "/tenant-2")
        assert (await connected(io, "/tenant-3")).refusal == {"message": "Too many namespaces"}
        assert (await connected(io, "/tenant-2")).connected
        first.send("1")
        await until(lambda: hub_of(io).directory.get("/tenant-1").is_idle)  # type: ignore[union-attr]
        await hub_of(io).keep_up()
        assert (await connected(io, "/tenant-3")).connected


async def test_one_client_that_names_thousands_costs_little() -> None:
    io = waypost.Server(drain_s=0.0, recovery=None, max_namespaces=20, max_child_namespaces=50)
    io.of(TENANTS)
    async with running(io):
        client = await connected(io, "/tenant-0")
        assert client.connection is not None
        for number in range(1, 3_000):
            client.connection.receive(f"40/tenant-{number},")
            if number % 500 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(names(io)) == 21)
        # Leaving makes room for others, up to what all clients may make together.
        for number in range(1, 20):
            client.connection.receive(f"41/tenant-{number},")
        for number in range(100, 3_000):
            client.connection.receive(f"40/tenant-{number},")
            client.connection.receive(f"41/tenant-{number},")
            await asyncio.sleep(0)
        assert client.connection.is_open
        assert len(names(io)) <= 51
        await until(lambda: len(hub_of(io).directory.get("/tenant-0").index) == 1)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [7, None, re.compile(rb"/x"), "tenant", "/a,b", lambda name: True])
def test_what_is_no_namespace_is_told_at_once(io: waypost.Server, name: Any) -> None:
    with pytest.raises(waypost.ConfigurationError):
        io.of(name)


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_namespaces", 0), ("max_child_namespaces", -1), ("cleanup_empty_child_namespaces", "no")],
)
def test_options_that_can_not_be_are_told_at_once(option: str, value: Any) -> None:
    with pytest.raises(waypost.ConfigurationError, match=option):
        waypost.Server(**{option: value})


def test_a_child_named_by_the_application_has_its_parent(io: waypost.Server) -> None:
    tenants, others = io.of(TENANTS), io.of(lambda name, auth: True)
    assert io.of("/tenant-1").parent is tenants
    assert tenants.of("/tenant-1") is io.of("/tenant-1")
    assert others.of("/other").parent is others
    for parent, name in ((tenants, "/other"), (others, "/tenant-1"), (others, "no slash")):
        with pytest.raises(waypost.ConfigurationError):
            parent.of(name)
