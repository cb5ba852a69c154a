"""One life at a time: what the application sees of a session is in one order, over all its connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until


class Diary:
    """A server that notes what the application is told, in order.

    Attributes:
        io: The server.
        told: What it was told: the start of each handler, and its end with a full stop.
        sockets: The socket of each connect.
    """

    def __init__(self, **options: Any) -> None:
        self.io = waypost.Server(drain_s=0.0, **options)
        self.told: list[str] = []
        self.sockets: list[waypost.Socket] = []
        self._open: dict[str, asyncio.Event] = {}
        self.io.on("connect")(self._connect)
        self.io.on("disconnect")(self._disconnect)
        self.io.on("work")(self._work)

    def gate(self, what: str) -> asyncio.Event:
        """Return the event that a handler of this name waits for."""
        return self._open.setdefault(what, asyncio.Event())

    async def _connect(self, socket: waypost.Socket) -> None:
        self.sockets.append(socket)
        await self._pass("connect")

    async def _disconnect(self, socket: waypost.Socket, reason: str) -> None:
        await self._pass("disconnect")

    async def _work(self, socket: waypost.Socket, what: Any) -> None:
        await self._pass(str(what))

    async def _pass(self, what: str) -> None:
        self.told.append(what)
        await asyncio.sleep(0)
        if what in self._open:
            await self._open[what].wait()
        self.told.append(f"{what}.")


def told(*handlers: str) -> list[str]:
    """Return what a diary says of handlers that ran one after the other."""
    return [line for handler in handlers for line in (handler, f"{handler}.")]


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_the_events_before_a_cut_are_handled_before_the_next_connect(is_noticed: bool) -> None:
    diary = Diary()
    first = diary.gate("1")
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        for number in range(1, 5):
            client.send(f'2["work",{number}]')
        await until(lambda: "1" in diary.told)
        if is_noticed:
            await client.cut()
        else:
            client.vanish()
        client.open()
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told == ["connect", "connect.", "1"]
        first.set()
        await until(lambda: client.connected)
        client.send('2["work",7]')
        client.send('2["work",8]')
        await until(lambda: "8." in diary.told)
        assert client.recovered
    assert diary.told[:-2] == told("connect", "1", "2", "3", "4", "disconnect", "connect", "7", "8")


async def test_a_slow_disconnect_handler_ends_before_the_next_connect() -> None:
    diary = Diary()
    leaving = diary.gate("disconnect")
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        client.vanish()
        client.open()
        await until(lambda: "disconnect" in diary.told)
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told == ["connect", "connect.", "disconnect"]
        leaving.set()
        await until(lambda: client.connected)
        assert diary.told == told("connect", "disconnect", "connect")


async def test_a_connect_handler_ends_and_is_followed_by_its_disconnect_before_the_next() -> None:
    diary = Diary()
    entering = diary.gate("connect")
    async with running(diary.io) as io:
        client = ModelClient(io)
        entering.set()
        await client.connect()
        await client.cut()
        await until(lambda: "disconnect." in diary.told)
        diary.told.clear()
        entering.clear()
        client.open()
        await until(lambda: diary.told == ["connect"])
        client.vanish()
        client.open()
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told == ["connect"]
        entering.set()
        await until(lambda: client.connected)
        assert diary.told == told("connect", "disconnect", "connect")


async def test_of_many_connections_that_wait_only_the_last_comes_in() -> None:
    diary = Diary()
    first = diary.gate("1")
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        client.send('2["work",1]')
        await until(lambda: "1" in diary.told)
        for _ in range(5):
            client.vanish()
            client.open()
            for _ in range(20):
                await asyncio.sleep(0)
        first.set()
        await until(lambda: client.connected)
        await io.emit("for all")
        await client.wait_for(1)
        assert diary.told == told("connect", "1", "disconnect", "connect")
        assert len(await io.fetch_sockets()) == 1


async def test_a_handler_that_never_returns_keeps_no_disconnect_from_being_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    diary = Diary(handler_grace_s=0.05)
    diary.gate("for ever")
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        client.send('2["work","for ever"]')
        await until(lambda: "for ever" in diary.told)
        await client.cut()
        await until(lambda: "disconnect." in diary.told)
        await client.connect()
        client.send('2["work",7]')
        await until(lambda: "7." in diary.told)
        assert diary.told == [*told("connect"), "for ever", *told("disconnect", "connect", "7")]
        (warning,) = [record.getMessage() for record in caplog.records if record.name == "waypost.socket"]
        assert "'work'" in warning
        assert "handler_grace_s" in warning
        diary.gate("for ever").set()
        await until(lambda: diary.told[-1] == "for ever.")


async def test_what_hangs_beside_others_is_named(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0, handler_grace_s=0.05)
    told: list[str] = []
    never = asyncio.Event()

    @io.event(concurrent=True)
    async def beside(socket: waypost.Socket) -> None:
        await never.wait()

    @io.on("disconnect")
    async def leave(socket: waypost.Socket, reason: str) -> None:
        told.append(reason)

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('2["beside"]')
        client.send('2["beside"]')
        await asyncio.sleep(0)
        await client.cut()
        await until(lambda: told == ["transport close"])
        never.set()
        assert "'beside' and 'beside'" in caplog.text


async def test_a_connect_handler_that_never_returns_keeps_no_client_out(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary(handler_grace_s=0.05)
    entering = diary.gate("connect")
    entering.set()
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await until(lambda: "disconnect." in diary.told)
        diary.told.clear()
        entering.clear()
        client.open()
        await until(lambda: diary.told == ["connect"])
        client.vanish()
        client.open()
        await until(lambda: diary.told.count("connect") == 2)
        assert diary.told == ["connect", *told("disconnect"), "connect"]
        assert "the handler of 'connect' still runs" in caplog.text
        entering.set()
        await until(lambda: client.connected)
        assert diary.told.count("disconnect") == 1, "it is told once"


async def test_a_disconnect_handler_that_never_returns_keeps_no_client_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    diary = Diary(handler_grace_s=0.05)
    leaving = diary.gate("disconnect")
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await client.connect()
        assert client.recovered
        assert diary.told == [*told("connect"), "disconnect", *told("connect")]
        assert "the handler of 'disconnect' still runs" in caplog.text
        leaving.set()


@pytest.mark.parametrize("how", ["await", "gather", "task"])
async def test_a_handler_that_waits_for_the_client_goes_on_when_it_is_back(how: str) -> None:
    diary = Diary()
    answers: list[Any] = []

    async def ask(socket: waypost.Socket) -> Any:
        call = socket.call("sure?", timeout_s=30)
        if how == "await":
            return await call
        return (await asyncio.gather(call))[0] if how == "gather" else await asyncio.create_task(call)

    @diary.io.event
    async def order(socket: waypost.Socket) -> None:
        diary.told.append("order")
        socket.data["answer"] = await ask(socket)
        answers.append(socket.data["answer"])
        diary.told.append("order.")

    @diary.io.event
    async def read(socket: waypost.Socket) -> Any:
        return socket.data.get("answer")

    async with running(diary.io) as io:
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        client.send('2["order"]')
        client.send('2["work",1]')
        await until(lambda: len(client.to_acknowledge) == 1)
        client.to_acknowledge.clear()
        client.vanish()
        client.open()
        await until(lambda: client.connected)
        client.send('2["work",7]')
        await until(lambda: len(client.to_acknowledge) == 1)
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told == [*told("connect"), "order", *told("disconnect", "connect")]
        ack_id, _ = client.to_acknowledge.pop()
        client.send(f'3{ack_id}["yes"]')
        await until(lambda: "7." in diary.told)
        assert diary.told == [*told("connect"), "order", *told("disconnect", "connect"), "order.", *told("1", "7")]
        assert answers == ["yes"]
        assert await client.call("read") == ["yes"]


async def test_a_call_of_others_does_not_make_a_handler_one_that_waits_for_the_client() -> None:
    diary = Diary()
    first = diary.gate("1")
    async with running(diary.io) as io:
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        client.send('2["work",1]')
        await until(lambda: "1" in diary.told)
        call = asyncio.ensure_future(diary.sockets[0].call("sure?", timeout_s=30))
        await until(lambda: len(client.to_acknowledge) == 1)
        client.vanish()
        client.open()
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told == [*told("connect"), "1"]
        first.set()
        await until(lambda: client.connected and len(client.to_acknowledge) == 2)
        assert diary.told == told("connect", "1", "disconnect", "connect")
        ack_id, _ = client.to_acknowledge.pop()
        client.send(f'3{ack_id}["yes"]')
        assert await call == "yes"


async def test_a_third_connection_waits_for_the_handlers_of_the_first() -> None:
    """The second one could not, as they waited for the client."""
    diary = Diary()
    rest = diary.gate("rest")

    @diary.io.event
    async def order(socket: waypost.Socket) -> None:
        diary.told.append("order")
        await socket.call("sure?", timeout_s=30)
        await diary._pass("rest")

    async with running(diary.io) as io:
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        client.send('2["order"]')
        await until(lambda: len(client.to_acknowledge) == 1)
        await client.cut()
        await client.connect()
        await client.cut()
        await client.connect()
        client.send('2["work",7]')
        await until(lambda: len(client.to_acknowledge) == 3)
        lives = told("disconnect", "connect")
        assert diary.told == [*told("connect"), "order", *lives, *lives]
        ack_id, _ = client.to_acknowledge.pop()
        client.send(f"3{ack_id}[]")
        await until(lambda: "rest" in diary.told)
        client.vanish()
        client.open()
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told[-1] == "rest"
        rest.set()
        await until(lambda: client.connected)
        assert diary.told[len(told("connect")) + 1 + 2 * len(lives) :] == told("rest", "7", "disconnect", "connect")


@pytest.mark.parametrize("says_goodbye", [True, False])
async def test_a_connect_on_the_same_connection_comes_after_the_disconnect_before(says_goodbye: bool) -> None:
    diary = Diary()
    first, leaving = diary.gate("1"), diary.gate("disconnect")
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        client.send('2["work",1]')
        await until(lambda: "1" in diary.told)
        if says_goodbye:
            client.send("1")
        client.send("0")
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told == [*told("connect"), "1"]
        first.set()
        await until(lambda: "disconnect" in diary.told)
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told[-1] == "disconnect"
        leaving.set()
        await until(lambda: client.answers == 2)
        assert diary.told == told("connect", "1", "disconnect", "connect")


async def test_a_second_connect_comes_after_the_disconnect_of_one_that_was_withdrawn() -> None:
    diary = Diary()
    entering, leaving = diary.gate("connect"), diary.gate("disconnect")
    async with running(diary.io) as io:
        client = ModelClient(io)
        client.open()
        await until(lambda: "connect" in diary.told)
        client.send("0")
        entering.set()
        await until(lambda: "disconnect" in diary.told)
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told == [*told("connect"), "disconnect"]
        leaving.set()
        await until(lambda: client.connected)
        assert diary.told == told("connect", "disconnect", "connect")


@pytest.mark.parametrize("offset", ["nonsense.5", None])
async def test_a_client_that_starts_anew_comes_after_its_old_socket_s_disconnect(offset: str | None) -> None:
    """Its session can't be continued, or was ended by itself; an official client names it all the same."""
    diary = Diary()
    first = diary.gate("1")
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        client.send('2["work",1]')
        await until(lambda: "1" in diary.told)
        if offset is None:
            client.send("1")
            client.vanish()
        else:
            client.vanish()
            client.offset = offset
        client.open()
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told == [*told("connect"), "1"]
        first.set()
        await until(lambda: client.connected)
        assert not client.recovered
        assert diary.told == told("connect", "1", "disconnect", "connect")
        assert diary.sockets[0].id != diary.sockets[1].id
        assert len(await io.fetch_sockets()) == 1


async def test_somebody_else_who_names_a_session_ends_nobody() -> None:
    async def nobody(_earlier: waypost.Handshake, _now: waypost.Handshake) -> bool:
        return False

    diary = Diary(recovery=waypost.Recovery(may_resume=nobody))
    async with running(diary.io) as io:
        client, thief = ModelClient(io), ModelClient(io)
        await client.connect()
        thief.pid = client.pid
        await thief.connect()
        assert thief.answer["reason"] == "refused"
        assert len(await io.fetch_sockets()) == 2


async def test_a_client_that_is_back_in_time_is_not_too_late_because_of_old_handlers() -> None:
    diary = Diary(recovery=waypost.Recovery(session_ttl_s=0.2))
    first = diary.gate("1")
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        client.send('2["work",1]')
        await until(lambda: "1" in diary.told)
        await client.cut()
        client.open()
        await asyncio.sleep(0.3)
        await io._hub.keep_up()
        first.set()
        await until(lambda: client.connected)
        assert client.recovered


async def test_the_end_of_a_session_is_told_after_its_disconnect() -> None:
    diary = Diary(recovery=waypost.Recovery(session_ttl_s=0.01))
    first = diary.gate("1")

    @diary.io.on("session_expired")
    async def expired(session: waypost.EndedSession) -> None:
        diary.told.append("expired")

    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        client.send('2["work",1]')
        await until(lambda: "1" in diary.told)
        await client.cut()
        await asyncio.sleep(0.05)
        upkeep = asyncio.ensure_future(io._hub.keep_up())
        await asyncio.sleep(0.05)
        assert diary.told == [*told("connect"), "1"]
        first.set()
        await upkeep
        assert diary.told == [*told("connect", "1", "disconnect"), "expired"]


async def test_a_session_ends_in_time_that_its_client_can_not_continue() -> None:
    io = waypost.Server(drain_s=0.0, recovery=waypost.Recovery(session_ttl_s=0.01))
    expired: list[waypost.EndedSession] = []
    may_end = asyncio.Event()
    io.on("session_expired", expired.append)

    @io.event
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        await may_end.wait()

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        before = client.sid
        client.vanish()
        client.offset = "of another journal.5"
        asyncio.get_running_loop().call_later(0.05, may_end.set)
        await client.connect()
        assert not client.recovered
        await asyncio.sleep(0.05)
        await io._hub.keep_up()
        assert [one.socket_id for one in expired] == [before]


@pytest.mark.parametrize("end", ["left", "expired", "no recovery"])
async def test_a_handler_stops_to_emit_to_a_client_that_is_gone(end: str, caplog: pytest.LogCaptureFixture) -> None:
    recovery = None if end == "no recovery" else waypost.Recovery(session_ttl_s=0.01)
    io = waypost.Server(drain_s=0.0, recovery=recovery, handler_grace_s=0.05)
    emitted: list[int] = []
    raised: list[waypost.NotConnected] = []

    @io.event
    async def watch(socket: waypost.Socket) -> None:
        try:
            while True:
                await socket.emit("still here")
                emitted.append(1)
                await asyncio.sleep(0.001)
        except waypost.NotConnected as problem:
            raised.append(problem)
            raise

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('2["watch"]')
        await until(lambda: bool(client.events))
        if end == "left":
            client.send("1")
        else:
            await client.cut()
        if end == "expired":
            before = len(emitted)
            await until(lambda: len(emitted) > before + 1)
            assert not raised, "the client may come back"
            await asyncio.sleep(0.02)
            await io._hub.keep_up()
        await until(lambda: bool(raised))
        assert raised[0].socket_id == client.sid
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_an_old_socket_is_gone_when_a_later_connection_of_its_session_leaves() -> None:
    diary = Diary()
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await client.connect()
        old, new = diary.sockets
        await old.emit("through the old one")
        await client.wait_for(1)
        client.send("1")
        await until(lambda: not new.connected)
        for socket in (old, new):
            with pytest.raises(waypost.NotConnected):
                await socket.emit("for nobody")
        # Others are still addressed, as in a disconnect handler that says goodbye to a room.
        await old.broadcast.emit("goodbye")


async def test_a_stop_leaves_no_timer_behind() -> None:
    diary = Diary(handler_grace_s=3_600)
    diary.gate("for ever")
    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        client.send('2["work","for ever"]')
        await until(lambda: "for ever" in diary.told)
        await client.cut()
        diary.gate("for ever").set()
    await until(lambda: "disconnect." in diary.told)


async def test_what_a_stop_cancels_is_told_of_nothing_more() -> None:
    diary = Diary(handler_grace_s=0.1)
    diary.gate("connect")
    async with running(diary.io) as io:
        client = ModelClient(io)
        client.open()
        await until(lambda: "connect" in diary.told)
        await client.cut()
        # As a stop does when its time is over.
        for task in list(hub_of(io).tasks._tasks):
            task.cancel()
        await asyncio.sleep(0.2)
        assert diary.told == ["connect"]


async def test_a_connect_handler_ends_first_also_while_an_earlier_handler_waits_for_the_client() -> None:
    diary = Diary()

    @diary.io.event
    async def order(socket: waypost.Socket) -> None:
        diary.told.append("order")
        await socket.call("sure?", timeout_s=30)
        diary.told.append("order.")

    async with running(diary.io) as io:
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        client.send('2["order"]')
        await until(lambda: bool(client.to_acknowledge))
        entering = diary.gate("connect")
        client.vanish()
        client.open()
        await until(lambda: diary.told.count("connect") == 2)
        client.vanish()
        client.open()
        for _ in range(50):
            await asyncio.sleep(0)
        assert diary.told == [*told("connect"), "order", *told("disconnect"), "connect"]
        entering.set()
        await until(lambda: client.connected)
        assert diary.told == [*told("connect"), "order", *told("disconnect", "connect", "disconnect", "connect")]
        client.acknowledge(client.to_acknowledge[-1][0])
        await until(lambda: diary.told[-1] == "order.")


async def test_a_handler_whose_call_waits_in_line_waits_for_the_client() -> None:
    diary = Diary(handler_grace_s=1000)
    line = asyncio.Event()

    @diary.io.event
    async def order(socket: waypost.Socket) -> None:
        diary.told.append("order")
        await socket.call("sure?", timeout_s=1000)
        diary.told.append("order.")

    async with running(diary.io) as io:
        client = ModelClient(io)
        await client.connect()
        feed = hub_of(io).directory.core("/").feed
        writing = asyncio.ensure_future(feed.write(lambda _: line.wait(), lambda _: None))
        await asyncio.sleep(0)
        client.send('2["order"]')
        await until(lambda: "order" in diary.told)
        client.vanish()
        client.open()
        await until(lambda: client.connected)
        assert diary.told == [*told("connect"), "order", *told("disconnect", "connect")]
        line.set()
        await writing
        await until(lambda: diary.told[-1] == "order.")
