"""Operators: broadcasts that ask for acks, flags, and what is known and done about sockets, without a transport."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from waypost.protocol.revision import Payload, Revision4
from waypost.server.connections.connection import Connection


@pytest.fixture
def io() -> waypost.Server:
    io = waypost.Server(drain_s=0.0, ack_timeout_s=5)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
        if "token" in auth:
            await socket.join(auth["token"])

    return io


async def connect(io: waypost.Server, count: int, room: str = "room") -> list[ModelClient]:
    clients = [ModelClient(io) for _ in range(count)]
    for client in clients:
        client.auto_ack = False
        await client.connect(auth=room)
    return clients


async def asked(*clients: ModelClient) -> None:
    await until(lambda: all(client.to_acknowledge for client in clients))


def answer(client: ModelClient, text: str) -> None:
    [(ack_id, _)] = client.to_acknowledge
    client.acknowledge(ack_id, text)


def pending(io: waypost.Server) -> int:
    return sum(len(channel.out.acks) for channel in hub_of(io).directory.core("/").index)


# -- broadcasts with acks -----------------------------------------------------------------------------------


async def test_a_broadcast_with_acks_says_who_answered_and_who_did_not(io: waypost.Server) -> None:
    async with running(io):
        one, two, three, four, late = await connect(io, 5)
        call = asyncio.ensure_future(_answers(io.to("room").timeout(0.2).call("question", 1)))
        await asked(one, two, three, four, late)
        assert [client.events for client in (one, late)] == [[["question", 1]]] * 2
        answer(one, "[]")
        answer(two, '["yes"]')
        answer(three, '["several",2]')
        four.send("1")
        answers = await call
        assert answers.answers == {one.sid: None, two.sid: "yes", three.sid: ("several", 2)}
        assert answers.missing == (late.sid,)
        assert answers.left == (four.sid,)
        assert answers.missing_servers == ()
        assert not answers.is_complete
        assert pending(io) == 0
        answer(late, '["too late"]')
        assert hub_of(io).services.counters.unexpected_acks == 1


async def _answers(call: waypost.BroadcastCall) -> waypost.BroadcastAnswers:
    return await call


async def test_a_broadcast_with_acks_to_nobody_is_answered_at_once(io: waypost.Server) -> None:
    async with running(io):
        assert (await io.to("nobody is in it").timeout(60).call("question")).is_complete
        assert (await io.call("question")).answers == {}


async def test_answers_come_one_by_one(io: waypost.Server) -> None:
    async with running(io):
        one, two, late = await connect(io, 3)
        call = io.to("room").timeout(0.2).call("question")
        seen: list[tuple[str, Any]] = []

        async def listen() -> None:
            async for sid, value in call:
                seen.append((sid, value))

        listening = asyncio.ensure_future(listen())
        await asked(one, two, late)
        answer(two, "[2]")
        await until(lambda: len(seen) == 1)
        assert set(call.so_far().missing) == {one.sid, late.sid}
        answer(one, "[1]")
        await listening
        assert seen == [(two.sid, 2), (one.sid, 1)]
        assert call.so_far().missing == (late.sid,)
        with pytest.raises(RuntimeError, match="make another one"):
            await call


async def test_whoever_loses_its_connection_is_not_waited_for(io: waypost.Server) -> None:
    async with running(io):
        [client] = await connect(io, 1)
        call = asyncio.ensure_future(_answers(io.timeout(60).call("question")))
        await asked(client)
        await client.cut()
        answers = await call
        assert answers.left == (client.sid,)
        # It is not asked again: by then, nobody waits for its answer.
        await client.connect()
        assert client.recovered
        assert client.events == [["question"]]


async def test_cancelling_a_broadcast_with_acks_leaves_nothing_behind(io: waypost.Server) -> None:
    async with running(io):
        clients = await connect(io, 2)
        call = asyncio.ensure_future(_answers(io.call("question")))
        await asked(*clients)
        assert pending(io) == 2
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert pending(io) == 0


async def test_only_the_first_answer_of_a_client_counts(io: waypost.Server) -> None:
    async with running(io):
        one, two = await connect(io, 2)
        call = asyncio.ensure_future(_answers(io.call("question")))
        await asked(one, two)
        answer(one, "[1]")
        answer(one, "[2]")
        # Not its own: ack ids of one client mean nothing on another.
        two.acknowledge(one.to_acknowledge[0][0], "[3]")
        answer(two, "[4]")
        assert (await call).answers == {one.sid: 1, two.sid: 4}


async def test_a_connect_handler_s_own_client_is_not_asked() -> None:
    io = waypost.Server(drain_s=0.0)
    answers: list[waypost.BroadcastAnswers] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        answers.append(await io.timeout(60).call("question"))

    async with running(io):
        first, second = ModelClient(io), ModelClient(io)
        await first.connect()
        await second.connect()
        assert [list(one.answers) for one in answers] == [[], [first.sid]]


async def test_sockets_call_others_and_themselves(io: waypost.Server) -> None:
    @io.event
    async def ask_others(socket: waypost.Socket) -> list[str]:
        return sorted((await socket.to("room").call("question")).answers)

    @io.event
    async def ask_all_others(socket: waypost.Socket) -> list[str]:
        return sorted((await socket.timeout(5).broadcast.call("question")).answers)

    @io.event
    async def ask_me(socket: waypost.Socket) -> str:
        with pytest.raises(waypost.AckTimeout):
            await socket.timeout(0.01).call("unanswered")
        return "timed out"

    async with running(io):
        client, other = ModelClient(io), ModelClient(io)
        await client.connect(auth="room")
        await other.connect()
        assert await client.call("ask_others") == [[]]
        assert await other.call("ask_others") == [[client.sid]]
        assert await client.call("ask_all_others") == [[other.sid]]
        client.auto_ack = False
        assert await client.call("ask_me") == ["timed out"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_a_timeout_that_is_none_is_refused(io: waypost.Server, seconds: float) -> None:
    with pytest.raises(waypost.ConfigurationError, match="timeout"):
        io.timeout(seconds)


async def test_reserved_names_are_refused(io: waypost.Server) -> None:
    sockets: list[waypost.Socket] = []
    io.off("connect")
    io.on("connect", sockets.append)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        for name in ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"):
            for emit in (io.emit, io.call, io.volatile.emit, sockets[0].emit, sockets[0].call, io.to("x").emit):
                with pytest.raises(waypost.EncodingFailed, match="reserved"):
                    await emit(name)
        assert client.connection is not None
        with pytest.raises(Exception, match="not reserved"):
            client.send('2["disconnecting"]')
        assert not client.connection.is_open


# -- acks of one client -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ack_id", [0, 1, 999_999_999_999_999])
async def test_acks_nobody_waits_for_are_ignored_and_counted(io: waypost.Server, ack_id: int) -> None:
    async with running(io):
        [client] = await connect(io, 1)
        client.acknowledge(ack_id)
        assert hub_of(io).services.counters.unexpected_acks == 1
        assert client.connection is not None
        assert client.connection.is_open


@pytest.mark.parametrize("ack_id", ["-1", "1" * 16, "1e3", ""])
async def test_acks_with_an_id_that_is_none_close_that_connection(io: waypost.Server, ack_id: str) -> None:
    async with running(io):
        client, other = await connect(io, 2)
        assert client.connection is not None
        assert other.connection is not None
        with pytest.raises(Exception, match="expected"):
            client.send(f"3{ack_id}[]")
        assert not client.connection.is_open
        assert other.connection.is_open


async def test_an_ack_that_is_awaited_dies_with_its_session() -> None:
    io = waypost.Server(drain_s=0.0, recovery=waypost.Recovery(session_ttl_s=0.01))
    sockets: list[waypost.Socket] = []
    io.on("connect", sockets.append)
    async with running(io):
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        call = asyncio.ensure_future(sockets[0].call("question", timeout_s=60))
        await asked(client)
        await client.cut()
        await asyncio.sleep(0.02)
        await hub_of(io).keep_up()
        with pytest.raises(waypost.NotConnected):
            await call


# -- flags --------------------------------------------------------------------------------------------------


async def test_a_volatile_event_is_dropped_for_each_client_that_can_t_take_it(io: waypost.Server) -> None:
    async with running(io):
        quick, slow = ModelClient(io), ModelClient(io)
        await quick.connect()
        await slow.connect()
        await io.emit("first")
        await until(lambda: len(quick.events) == len(slow.events) == 1)
        slow.stop_reading()
        await asyncio.sleep(0)
        await io.emit("kept")
        await io.emit("kept, too")
        await until(lambda: len(quick.events) == 3)
        await io.volatile.emit("dropped")
        await until(lambda: len(quick.events) == 4)
        answers = await io.volatile.timeout(5).call("dropped, too")
        await io.emit("last")
        slow.read_on()
        await slow.wait_for(4)
        assert slow.events == [["first"], ["kept"], ["kept, too"], ["last"]]
        await quick.wait_for(6)
        assert [event[0] for event in quick.events[3:]] == ["dropped", "dropped, too", "last"]
        assert list(answers.answers) == [quick.sid]
        assert answers.missing == (slow.sid,)


async def test_a_volatile_call_is_dropped_for_a_client_that_can_t_take_it_and_another_one_waits(
    io: waypost.Server,
) -> None:
    sockets: list[waypost.Socket] = []
    io.off("connect")
    io.on("connect", sockets.append)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await sockets[0].volatile.call("taken") is None
        client.stop_reading()
        await io.emit("is taken")
        await io.emit("fills the line")
        with pytest.raises(waypost.AckTimeout):
            await sockets[0].volatile.timeout(0.05).call("dropped")
        waits = asyncio.ensure_future(sockets[0].call("waits"))
        await asyncio.sleep(0)
        client.read_on()
        assert await waits is None
        assert client.events == [["taken"], ["is taken"], ["fills the line"], ["waits"]]


async def test_flags_of_a_socket_go_along_to_others_and_are_not_kept(io: waypost.Server) -> None:
    sockets: list[waypost.Socket] = []
    io.off("connect")
    io.on("connect", sockets.append)
    async with running(io):
        client, other = ModelClient(io), ModelClient(io)
        await client.connect()
        await other.connect()
        await sockets[0].join("room")
        await sockets[1].join("room")
        await sockets[0].volatile.to("room").emit("to others")
        await until(lambda: len(other.events) == 1)
        await sockets[0].compress(False).local.volatile.emit("to itself")
        await sockets[0].emit("plain")
        await client.wait_for(2)
        assert client.events == [["to itself"], ["plain"]]
        assert other.events == [["to others"]]


async def polled(connection: Connection) -> Payload | None:
    assert connection.open_poll()
    while (payload := connection.take_payload()) is None:
        await connection.wait_for_output()
    return payload


async def test_what_must_not_be_compressed_is_not() -> None:
    io = waypost.Server(drain_s=0.0)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        polling = hub_of(io).engine.open("polling", client.handshake, Revision4())
        await polled(polling)
        polling.receive_post(b"40")
        connected = await polled(polling)
        assert connected is not None
        assert not connected.compress  # it holds a pid
        for plain, packed, expected in ((1, 0, False), (0, 1, True), (1, 1, True), (2, 0, False)):
            for _ in range(plain):
                await io.compress(False).emit("picture", "x" * 2000)
            for _ in range(packed):
                await io.emit("text", "x" * 2000)
            payload = await polled(polling)
            assert payload is not None
            assert payload.compress is expected
        polling.abort("transport close")


# -- sockets ------------------------------------------------------------------------------------------------


async def test_fetched_sockets_know_and_can_what_sockets_do(io: waypost.Server) -> None:
    @io.event
    async def remember(socket: waypost.Socket, value: str) -> None:
        socket.data["value"] = value

    async with running(io):
        one, other = ModelClient(io), ModelClient(io)
        await one.connect(auth="room")
        await other.connect()
        await one.call("remember", "this")
        assert {socket.id for socket in await io.fetch_sockets()} == {one.sid, other.sid}
        fetched = await io.in_("room").fetch_sockets()
        assert not fetched.is_partial
        assert len(fetched) == 1
        [socket] = fetched
        assert socket.id == one.sid
        assert socket.rooms == {"room", one.sid}
        assert socket.data == {"value": "this"}
        assert socket.handshake.auth == {"token": "room"}
        assert socket.server == ""
        await socket.emit("hello")
        assert await socket.call("question") is None
        await socket.join("another")
        await socket.leave("room")
        [again] = await io.in_("another").fetch_sockets()
        assert again.rooms == {"another", one.sid}
        assert len(await io.in_("room").fetch_sockets()) == 0
        one.auto_ack = False
        with pytest.raises(waypost.AckTimeout):
            await socket.call("question", timeout_s=0.01)
        await socket.disconnect()
        await until(lambda: one.disconnected_by_server)
        with pytest.raises(waypost.NotConnected):
            await socket.call("question")
        assert other.events == []


@pytest.mark.parametrize("close", [False, True])
async def test_sockets_are_disconnected(io: waypost.Server, close: bool) -> None:
    reasons: list[str] = []
    io.on("disconnect", lambda socket, reason: reasons.append(reason))
    async with running(io):
        one, two = await connect(io, 2)
        [other] = await connect(io, 1, "other room")
        await io.in_("room").disconnect_sockets(close=close)
        await until(lambda: one.disconnected_by_server and two.disconnected_by_server)
        await until(lambda: len(reasons) == 2)
        assert reasons == ["server namespace disconnect"] * 2
        assert one.connection is not None
        assert one.connection.is_open is not close
        assert other.connected


async def test_operators_of_a_parent_reach_the_sockets_of_its_children(io: waypost.Server) -> None:
    parent = io.of(re.compile("/room-[0-9]"))
    async with running(io):
        one, two, other = ModelClient(io, "/room-1"), ModelClient(io, "/room-2"), ModelClient(io)
        for client in (one, two, other):
            await client.connect()
        answers = await parent.call("question", b"binary")
        assert set(answers.answers) == {one.sid, two.sid}
        assert one.events == two.events == [["question", b"binary"]]
        fetched = {socket.id: socket for socket in await parent.fetch_sockets()}
        assert set(fetched) == {one.sid, two.sid}
        assert one.sid is not None
        await fetched[one.sid].emit("to one")
        await one.wait_for(2)
        await parent.disconnect_sockets()
        await until(lambda: one.disconnected_by_server and two.disconnected_by_server)
        assert [event[0] for event in two.events] == ["question"]
        assert other.events == []


@pytest.mark.parametrize("lacks", ["missing", "left", "missing_servers"])
def test_answers_that_lack_anyone_are_not_complete(lacks: str) -> None:
    assert waypost.BroadcastAnswers({"a": 1}).is_complete
    assert not waypost.BroadcastAnswers({"a": 1}, **{lacks: ("b",)}).is_complete
