"""Recovery, on both stores, at the edges that a test with real processes can't aim at."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import HANDSHAKE, ModelClient, hub_of, only_channel, running, until
from tests.support.waiting import DEADLINE_S
from waypost.errors import MalformedPacket
from waypost.protocol.revision import Revision4
from waypost.server.basics.environment import Environment
from waypost.server.emitting.outflow import Outflow

MakeServer = Callable[..., waypost.Server]


@pytest.fixture(params=["memory", "sqlite"])
def make_server(request: pytest.FixtureRequest, tmp_path: Path) -> MakeServer:
    spec = "memory:" if request.param == "memory" else str(tmp_path / "store.db")

    def make(**options: Any) -> waypost.Server:
        return waypost.Server(**{"store": spec, "drain_s": 0.0, **options})

    return make


def numbers(client: ModelClient) -> list[Any]:
    return [event[1] for event in client.events if event[0] == "tick"]


async def test_what_was_missed_is_replayed_in_order_and_once(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        await io.emit("tick", 1)
        await client.wait_for(1)
        await client.cut()
        for number in range(2, 5):
            await io.emit("tick", number)
        await client.connect()
        await client.wait_for(4)
        assert client.recovered
        assert numbers(client) == [1, 2, 3, 4]
        await io.emit("tick", 5)
        await client.wait_for(5)
        assert client.offsets == sorted(client.offsets, key=lambda offset: int(offset.split(".")[1]))


async def test_client_that_saw_no_event_recovers_from_its_start(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        await io.emit("tick", "before it came")
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await io.emit("tick", 1)
        await client.connect()
        await client.wait_for(1)
        assert client.recovered
        assert numbers(client) == [1]


async def test_many_cuts_in_a_row_without_an_event_between(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        sid = client.sid
        for number in range(20):
            await client.cut()
            if number % 3 == 0:
                await io.emit("tick", number)
            await client.connect()
            assert client.recovered
            assert client.sid == sid
        await client.wait_for(7)
        assert numbers(client) == [0, 3, 6, 9, 12, 15, 18]


async def test_string_as_last_argument_is_not_taken_for_an_offset(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        await io.emit("tick", 1, "text")
        await client.wait_for(1)
        await io.volatile.emit("tick", 2, "text")
        await client.wait_for(2)
        await client.cut()
        await io.emit("tick", 3, "text")
        await client.connect()
        await client.wait_for(3)
        assert client.recovered
        assert [event[1:] for event in client.events] == [[1, "text"], [2, "text"], [3, "text"]]


async def test_binary_is_replayed(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await io.emit("tick", {"picture": b"\x00\x1e\xff"}, b"")
        await client.connect()
        await client.wait_for(1)
        assert client.events == [["tick", {"picture": b"\x00\x1e\xff"}, b""]]


async def test_client_back_before_the_server_noticed_takes_over(make_server: MakeServer) -> None:
    server = make_server()
    left: list[tuple[str, str]] = []

    @server.on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        left.append((socket.id, reason))

    async with running(server) as io:
        client = ModelClient(io)
        await client.connect()
        sid = client.sid
        assert sid is not None
        for number in range(5):
            stale = client.connection
            assert stale is not None
            client.vanish()
            await io.emit("tick", number)
            await client.connect()
            assert client.recovered
            assert not stale.is_open
            stale.lose_transport("ping timeout")
        await client.wait_for(5)
        assert numbers(client) == list(range(5))
        await until(lambda: len(left) == 5)
        assert set(left) == {(sid, "transport close")}
        await io.to(sid).emit("tick", "still in its room")
        await client.wait_for(6)


async def test_events_while_middleware_and_connect_handler_wait_are_not_lost(make_server: MakeServer) -> None:
    server = make_server()
    go = {"middleware": asyncio.Event(), "connect": asyncio.Event()}
    waiting: list[str] = []

    @server.use
    async def gate(socket: waypost.Socket) -> None:
        waiting.append("middleware")
        await go["middleware"].wait()

    @server.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        waiting.append("connect")
        await go["connect"].wait()

    async with running(server) as io:
        for event in go.values():
            event.set()
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        for event in go.values():
            event.clear()
        waiting.clear()
        await io.emit("tick", "away")
        client.open()
        await until(lambda: waiting == ["middleware"])
        await io.emit("tick", "in middleware")
        go["middleware"].set()
        await until(lambda: waiting == ["middleware", "connect"])
        await io.emit("tick", "in connect")
        assert client.events == []
        go["connect"].set()
        await client.wait_for(3)
        assert client.recovered
        assert numbers(client) == ["away", "in middleware", "in connect"]


async def test_replay_follows_the_rooms_at_each_event(make_server: MakeServer) -> None:
    server = make_server()
    sockets: list[waypost.Socket] = []
    server.on("connect", sockets.append)
    async with running(server) as io:
        client = ModelClient(io)
        await client.connect()
        (socket,) = sockets
        client.vanish()
        await io.to("a").emit("tick", "a before")
        await socket.join("a", "b")
        await io.to("a").emit("tick", "a inside")
        await io.to("a", "b").emit("tick", "both, once")
        await io.except_("b").emit("tick", "not for b")
        await socket.to("a").emit("tick", "its own, so not for it")
        await socket.leave("a")
        await io.to("a").emit("tick", "a after")
        await io.to("b").emit("tick", "b inside")
        await io.emit("tick", "everyone")
        await client.cut()
        await io.to("b").emit("tick", "b away")
        await client.connect()
        await client.wait_for(5)
        assert client.recovered
        assert numbers(client) == ["a inside", "both, once", "b inside", "everyone", "b away"]
        assert sockets[-1].rooms == {socket.id, "b"}


async def test_data_and_rooms_come_back_and_handlers_run(make_server: MakeServer) -> None:
    server = make_server()
    seen: list[tuple[bool, int]] = []

    @server.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        seen.append((socket.recovered, socket.data.get("visits", 0)))
        socket.data["visits"] = socket.data.get("visits", 0) + 1

    @server.event
    async def note(socket: waypost.Socket, text: str) -> str:
        socket.data["note"] = text
        return str(socket.data)

    async with running(server) as io:
        client = ModelClient(io)
        await client.connect()
        await client.call("note", "hello")
        await client.cut()
        await client.connect()
        assert seen == [(False, 0), (True, 1)]
        assert await client.call("note", "again") == ["{'visits': 2, 'note': 'again'}"]


async def test_data_stored_while_the_client_is_coming_back_is_not_lost(make_server: MakeServer) -> None:
    server = make_server()
    go = asyncio.Event()
    go.set()

    @server.use
    async def gate(socket: waypost.Socket) -> None:
        await go.wait()
        socket.data["passed"] = socket.data.get("passed", 0) + 1

    @server.event
    async def note(socket: waypost.Socket, text: str) -> dict[str, Any]:
        socket.data["note"] = text
        return dict(socket.data)

    async with running(server) as io:
        client, away = ModelClient(io), ModelClient(io)
        await client.connect()
        await client.call("note", "looked up")
        away.pid = client.pid
        go.clear()
        away.open()
        await until(lambda: hub_of(io).directory.core("/").ownership.keeper is not None)
        for _ in range(20):
            await asyncio.sleep(0)
        await client.call("note", "stored meanwhile")
        go.set()
        await until(lambda: away.connected)
        assert away.recovered
        sockets = list(hub_of(io).directory.core("/").index)
        assert [channel.data for channel in sockets] == [{"passed": 2, "note": "stored meanwhile"}]
        # What is in the store now is the later state too, also when a handler sets it back.
        await away.call("note", "looked up")
        await away.cut()
        await away.connect()
        assert (await away.call("note", "again"))[0] == {"passed": 3, "note": "again"}


async def test_a_handler_of_an_ended_connection_overwrites_no_data(make_server: MakeServer) -> None:
    server = make_server(handler_grace_s=0.01)
    go = asyncio.Event()
    ended = asyncio.Event()

    @server.event
    async def slow(socket: waypost.Socket) -> None:
        await go.wait()
        socket.data["by"] = "the ended one"
        ended.set()

    @server.event
    async def note(socket: waypost.Socket) -> dict[str, Any]:
        socket.data.setdefault("by", "the new one")
        return dict(socket.data)

    async with running(server) as io:
        client = ModelClient(io)
        await client.connect()
        client.send('2["slow"]')
        await client.cut()
        await client.connect()
        await client.call("note")
        go.set()
        await ended.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        await client.cut()
        await client.connect()
        assert await client.call("note") == [{"by": "the new one"}]


async def test_revoked_token_is_refused_and_gets_nothing(make_server: MakeServer) -> None:
    server = make_server()
    revoked: set[str] = set()

    @server.use
    async def gate(socket: waypost.Socket) -> None:
        if socket.handshake.auth.get("token") in revoked:
            raise waypost.ConnectionRefused("revoked", {"code": 1})

    async with running(server) as io:
        client = ModelClient(io)
        await client.connect("t1")
        await client.cut()
        revoked.add("t1")
        await io.emit("tick", "secret")
        await client.connect("t1")
        assert client.refusal == {"message": "revoked", "data": {"code": 1}}
        assert client.events == []
        await client.cut()
        await client.connect("t2")
        await client.wait_for(1)
        assert client.recovered


async def test_auth_is_what_the_application_sent(make_server: MakeServer) -> None:
    server = make_server()
    auths: list[Any] = []
    server.on("connect", lambda socket, auth: auths.append(auth))
    async with running(server) as io:
        client = ModelClient(io)
        await client.connect("t1")
        await client.cut()
        await client.connect("t1")
        assert auths == [{"token": "t1"}, {"token": "t1"}]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda client: setattr(client, "pid", "never given out"), "unknown session"),
        (lambda client: setattr(client, "offset", f"{client.offset.split('.')[0]}.999"), "generation"),
    ],
)
async def test_whoever_can_not_go_on_is_told_why(
    make_server: MakeServer, damage: Callable[[ModelClient], None], reason: str
) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        await io.emit("tick", 1)
        await client.wait_for(1)
        await client.cut()
        damage(client)
        await client.connect()
        assert not client.recovered
        assert client.answer["reason"] == reason
        # The client keeps its old offset beside the new pid; that must not be taken for its position.
        await client.cut()
        await io.emit("tick", 2)
        await client.connect()
        await client.wait_for(2)
        assert numbers(client) == [1, 2]


async def test_too_much_missed_is_told_and_not_cut_short(make_server: MakeServer) -> None:
    recovery = waypost.Recovery(replay_max_events=10)
    async with running(make_server(recovery=recovery)) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        for number in range(11):
            await io.emit("tick", number)
        await client.connect()
        assert not client.recovered
        assert client.answer["reason"] == "too far"
        assert client.events == []


async def test_what_the_journal_dropped_is_told(make_server: MakeServer) -> None:
    recovery = waypost.Recovery(max_events=10)
    async with running(make_server(recovery=recovery)) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        for number in range(30):
            await io.emit("tick", number)
        await hub_of(io).services.store.trim()
        await client.connect()
        assert client.answer["reason"] == "retention"


async def test_quiet_client_is_not_lost_by_trimming(make_server: MakeServer) -> None:
    recovery = waypost.Recovery(max_events=10)
    async with running(make_server(recovery=recovery, ping_interval_s=0.05)) as io:
        client = ModelClient(io)
        await client.connect()
        for number in range(30):
            await io.to("elsewhere").emit("tick", number)
        await hub_of(io).services.store.trim()
        # The next heartbeat's pong proves that nothing is missing.
        connection = client.connection
        assert connection is not None
        channel = only_channel(io)
        assert channel.session is not None
        stored = hub_of(io).directory.core("/").ownership.keeper
        assert stored is not None
        key = channel.session.key
        async with asyncio.timeout(DEADLINE_S):
            while (found := await stored.journal.find_session(key)) is None or found.proven < 30:
                await asyncio.sleep(0.01)
        await client.cut()
        await io.emit("tick", "now")
        await client.connect()
        assert client.recovered
        await client.wait_for(1)


async def test_unanswered_call_is_sent_again_with_the_same_id(make_server: MakeServer) -> None:
    server = make_server()
    sockets: list[waypost.Socket] = []
    server.on("connect", sockets.append)
    async with running(server) as io:
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        asking = asyncio.create_task(sockets[0].call("question", 1, timeout_s=5))
        await until(lambda: len(client.to_acknowledge) == 1)
        await client.cut()
        await client.connect()
        await until(lambda: len(client.to_acknowledge) == 2)
        (first, _), (second, _) = client.to_acknowledge
        assert first == second
        client.acknowledge(second, '["answer"]')
        assert await asking == "answer"


async def test_an_ack_that_comes_before_connect_counts_if_its_session_recovers(make_server: MakeServer) -> None:
    """An official client that was busy while its line was cut sends its old acks first."""
    async with running(make_server()) as io:
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        asking = asyncio.create_task(only_channel(io).socket.call("question"))
        await until(lambda: len(client.to_acknowledge) == 1)
        ((ack_id, _),) = client.to_acknowledge
        await client.cut()
        stranger = ModelClient(io)
        for one in (stranger, client):
            one.connection = one.hub.engine.open("websocket", one.handshake, Revision4())
            one.reading = asyncio.create_task(one._read(one.connection))
            for number in range(100):
                one.send(f'3{ack_id + 1 + number}["old"]' if number else f'3{ack_id}["answer"]')
            one.send("0" if one is stranger else f'0{{"pid":"{one.pid}"}}')
            await until(partial(getattr, one, "connected"))
            assert asking.done() is (one is client)
        assert client.recovered
        assert await asking == "answer"
        assert io.state().counters.unexpected_acks == 199


def asking(**query: str) -> waypost.Handshake:
    """Return the handshake of a client whose request has this query."""
    return dataclasses.replace(HANDSHAKE, query=query)


@pytest.mark.parametrize("query", [{"t": "1700000000.25"}, {"t": "abc", "waypost-offsets": "no"}])
async def test_client_that_can_not_take_offsets_gets_plain_events(
    make_server: MakeServer, query: dict[str, str]
) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io, handshake=asking(**query))
        await client.connect()
        assert "pid" not in client.answer
        await io.emit("tick", 1, "text")
        await client.wait_for(1)
        assert client.events == [["tick", 1, "text"]]


async def test_client_that_can_not_recover_leaves_no_session(make_server: MakeServer) -> None:
    """Each of its reconnects is another client, and the one before is gone for good as soon as its line is."""
    told: list[tuple[str, str, Any]] = []
    async with running(make_server()) as io:

        @io.on("connect")
        async def connect(socket: waypost.Socket) -> None:
            socket.data["name"] = "seven"

        @io.on("disconnect")
        async def disconnect(socket: waypost.Socket, reason: str) -> None:
            told.append(("disconnect", socket.id, reason))

        @io.on("session_expired")
        async def expired(session: waypost.EndedSession) -> None:
            told.append(("session_expired", session.socket_id, session.data))

        client = ModelClient(io, handshake=asking(t="1700000000.25"))
        await client.connect()
        first = str(client.sid)
        await client.cut()
        await client.connect()
        await until(lambda: len(told) == 2)
        second = str(client.sid)
        client.send("1")
        await until(lambda: len(told) == 3)
        able = ModelClient(io)
        await able.connect()
        await able.cut()
        await until(lambda: len(told) == 4)
    assert told == [
        ("disconnect", first, "transport close"),
        ("session_expired", first, {"name": "seven"}),
        ("disconnect", second, "client namespace disconnect"),
        ("disconnect", able.sid, "transport close"),
    ]


async def test_an_empty_offset_is_none(make_server: MakeServer, caplog: pytest.LogCaptureFixture) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await io.emit("missed")
        client.offset = ""
        await client.connect()
        assert client.recovered
        assert await client.wait_for(1) == [["missed"]]
    assert "older copy" not in caplog.text


async def test_recovery_off_means_plain_socket_io(make_server: MakeServer) -> None:
    async with running(make_server(recovery=None)) as io:
        client = ModelClient(io)
        await client.connect()
        assert client.answer.keys() == {"sid"}
        await io.emit("tick", 1)
        await client.wait_for(1)
        assert client.events == [["tick", 1]]


async def test_namespaces_recover_independently(make_server: MakeServer) -> None:
    server = make_server()
    server.of("/news")
    async with running(server) as io:
        one, two = ModelClient(io), ModelClient(io, "/news")
        await one.connect()
        await two.connect()
        await one.cut()
        await two.cut()
        await io.emit("tick", "root")
        await io.of("/news").emit("tick", "news")
        await one.connect()
        await two.connect()
        await one.wait_for(1)
        await two.wait_for(1)
        assert (numbers(one), numbers(two)) == (["root"], ["news"])
        assert one.recovered
        assert two.recovered


async def test_session_ends_with_a_deliberate_disconnect(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        client.send("1")
        await until(lambda: len(hub_of(io).directory.core("/").index) == 0)
        await client.cut()
        await client.connect()
        assert client.answer["reason"] == "unknown session"


async def test_slow_client_is_cut_off_and_catches_up(make_server: MakeServer) -> None:
    async with running(make_server(max_buffered_bytes=20_000)) as io:
        client = ModelClient(io)
        await client.connect()
        client.stop_reading()
        for number in range(40):
            await io.emit("tick", number, "x" * 1_000)
        assert client.connection is not None
        assert not client.connection.is_open
        await client.cut()
        client.read_on()
        await client.connect()
        await client.wait_for(40)
        assert client.recovered
        assert numbers(client) == list(range(40))


async def test_server_moves_those_who_are_away_too(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        here, away = ModelClient(io), ModelClient(io)
        await here.connect()
        await away.connect()
        await away.cut()
        await io.sockets_join("news", "old")
        await io.in_("old").except_(here.sid or "").sockets_leave("old")
        await io.to("news").emit("tick", "to news")
        await io.to("old").emit("tick", "to old")
        await away.connect()
        await here.wait_for(2)
        await away.wait_for(1)
        assert (numbers(here), numbers(away)) == (["to news", "to old"], ["to news"])
        await io.to("news").emit("tick", "live")
        await away.wait_for(2)


async def test_pid_in_other_hands_can_be_refused(make_server: MakeServer) -> None:
    seen: list[tuple[Any, Any]] = []

    async def same_user(earlier: waypost.Handshake, now: waypost.Handshake) -> bool:
        seen.append((earlier.auth, now.auth))
        return bool(earlier.auth == now.auth)

    async with running(make_server(recovery=waypost.Recovery(may_resume=same_user))) as io:
        client = ModelClient(io)
        await client.connect("alice")
        await client.cut()
        await io.emit("tick", "for alice")
        thief = ModelClient(io)
        thief.pid = client.pid
        await thief.connect("mallory")
        assert thief.answer["reason"] == "refused"
        assert thief.events == []
        await client.connect("alice")
        await client.wait_for(1)
        assert client.recovered
        assert seen == [({"token": "alice"}, {"token": "mallory"}), ({"token": "alice"}, {"token": "alice"})]


async def test_numbers_are_in_one_place(make_server: MakeServer) -> None:
    async with running(make_server(recovery=waypost.Recovery(max_events=3))) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await io.emit("tick", 1)
        await client.connect()
        await client.wait_for(1)
        await client.cut()
        client.pid = "never given out"
        await client.connect()
        for number in range(6):
            await io.emit("tick", number)
        await hub_of(io).keep_up()
        state = io.state()
        assert (state.connections, state.sockets) == (1, {"/": 1})
        assert state.counters.recoveries == {"recovered": 1, "unknown session": 1}
        assert state.counters.replayed_events == 1
        journal = state.journals["/"]
        assert journal.events == 3
        assert journal.bytes > 0
        assert journal.oldest_offset.endswith(".5")
        assert journal.newest_offset.endswith(".7")


async def test_expired_session_is_told_to_both_sides(make_server: MakeServer) -> None:
    now = [1_000_000.0]
    server = make_server(environment=Environment(wall_time=lambda: now[0]))
    ended: list[waypost.EndedSession] = []
    server.on("session_expired", ended.append)

    @server.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        socket.data["name"] = "Ada"

    async with running(server) as io:
        client = ModelClient(io)
        await client.connect()
        sid = client.sid
        await client.cut()
        now[0] += 3_601
        await hub_of(io).keep_up()
        await until(lambda: bool(ended))
        assert ended == [waypost.EndedSession(sid or "", "/", {"name": "Ada"})]
        assert io.state().counters.expired_sessions == 1
        await client.connect()
        assert client.answer["reason"] == "expired"


async def test_pong_of_a_deaf_socket_proves_nothing(make_server: MakeServer) -> None:
    async with running(make_server(ping_interval_s=0.05)) as io:
        client = ModelClient(io)
        await client.connect()
        # Its engine answers pings, but nobody looks at the events.
        client.is_deaf = True
        await io.emit("tick", 1)
        keeper = hub_of(io).directory.core("/").ownership.keeper
        channel = only_channel(io)
        assert keeper is not None
        assert channel.session is not None
        async with asyncio.timeout(DEADLINE_S):
            while (found := await keeper.journal.find_session(channel.session.key)) is None or found.proven < 1:
                await asyncio.sleep(0.01)
        await client.cut()
        client.is_deaf = False
        await client.connect()
        await client.wait_for(1)
        assert client.recovered
        assert numbers(client) == [1]


async def test_leaving_a_room_in_middleware_counts_at_once(make_server: MakeServer) -> None:
    server = make_server()
    revoked: set[str] = set()
    left, go = asyncio.Event(), asyncio.Event()

    @server.use
    async def gate(socket: waypost.Socket) -> None:
        await socket.join("wanted", "unwanted")
        await socket.leave("unwanted", *revoked)
        left.set()
        await go.wait()

    async with running(server) as io:
        go.set()
        client = ModelClient(io)
        await client.connect()
        await io.sockets_join("board")
        await client.cut()
        await io.to("board").emit("tick", "while it was allowed")
        revoked.add("board")
        left.clear()
        go.clear()
        client.open()
        await left.wait()
        await io.to("board").emit("tick", "not any more")
        await io.to("unwanted").emit("tick", "never")
        go.set()
        await io.to("wanted").emit("tick", "wanted")
        await client.wait_for(2)
        assert numbers(client) == ["while it was allowed", "wanted"]


async def test_data_that_can_not_be_stored_is_told_and_refuses_nobody(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server()

    @server.use
    async def gate(socket: waypost.Socket) -> None:
        socket.data["user"] = socket

    @server.event
    async def who(socket: waypost.Socket) -> bool:
        return socket.data["user"] is socket

    async with running(server) as io:
        client = ModelClient(io)
        await client.connect()
        assert await client.call("who") == [True]
        await client.cut()
        await client.connect()
        assert client.recovered
        assert "not kept for recovery: socket.data['user']: Type is not JSON serializable" in caplog.text


async def test_endless_offset_is_not_stored(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        client.pid = "p" * 20
        client.offset = "x" * 50_000
        await client.connect()
        assert client.answer["reason"] == "generation"
        channel = only_channel(io)
        assert channel.session is not None
        assert len(channel.session._encoded) < 300


async def recovered_with(io: waypost.Server, stop_reading: bool) -> ModelClient:
    """Let a client miss 20 kB of events, and come back."""
    client = ModelClient(io)
    await client.connect()
    assert client.sid is not None
    own = io.to(client.sid)
    await own.emit("tick", 0)
    await client.wait_for(1)
    await client.cut()
    for number in range(1, 21):
        await own.emit("tick", number, "x" * 1_000)
    if stop_reading:
        client.stop_reading()
    client.open()
    if stop_reading:
        await until(lambda: client.connection is not None and client.connection.buffered_bytes > 1_000)
    return client


async def test_clients_that_read_nothing_hold_no_turn(make_server: MakeServer) -> None:
    io = make_server(recovery=waypost.Recovery(concurrent_replays=1), max_buffered_bytes=4_000)
    async with running(io):
        silent = [await recovered_with(io, stop_reading=True) for _ in range(3)]
        honest = await recovered_with(io, stop_reading=False)
        await honest.wait_for(21)
        assert numbers(honest) == list(range(21))
        # They are still being sent what they have missed.
        assert all(
            len(client.events) < 21 and client.connection.buffered_bytes for client in silent if client.connection
        )


async def test_clients_that_the_application_thinks_about_hold_no_turn(make_server: MakeServer) -> None:
    asked: list[Any] = []
    go = asyncio.Event()

    async def may_resume(earlier: Any, now: Any) -> bool:
        asked.append(now)
        if len(asked) <= 3:
            await go.wait()
        return True

    io = make_server(recovery=waypost.Recovery(concurrent_replays=1, may_resume=may_resume))
    async with running(io):
        waiting = [await recovered_with(io, stop_reading=False) for _ in range(3)]
        await until(lambda: len(asked) == 3)
        honest = await recovered_with(io, stop_reading=False)
        await honest.wait_for(21)
        assert honest.recovered
        assert not any(client.connected for client in waiting)
        go.set()
        for client in waiting:
            await client.wait_for(21)


async def test_a_replay_that_fails_ends_the_connection_and_not_the_events(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        await io.emit("tick", 1)
        await client.wait_for(1)
        await client.cut()
        await io.emit("tick", 2)
        with monkeypatch.context() as patched:
            patched.setattr(Outflow, "replay", _fail)
            client.open()
            await until(lambda: client.answers == 2 and not client.connected)
        await client.connect()
        await client.wait_for(2)
        assert client.recovered
        assert numbers(client) == [1, 2]


async def _fail(*_: object) -> bool:
    raise MalformedPacket("an event", b"")
