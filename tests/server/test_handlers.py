"""What the application can register, and who is called in which order: between a model client and a server."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, running, until


@pytest.fixture
def io() -> waypost.Server:
    return waypost.Server(drain_s=0.0, concurrent_handlers=2)


async def test_a_handler_for_once_is_called_once(io: waypost.Server) -> None:
    calls: list[str] = []
    io.once("hello", lambda socket, text: calls.append(text))
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("hello") == [{"error": "hello takes 1 argument(s), 0 came"}]
        client.send('2["hello","one"]')
        client.send('2["hello","two"]')
        await until(lambda: bool(calls))
        io.on("hello", lambda socket, text: text)
        assert await client.call("hello", "three") == ["three"]
        assert calls == ["one"]


async def test_a_handler_that_is_off_is_not_called(io: waypost.Server) -> None:
    io.on("hello", lambda socket: "namespace")
    io.off("hello")
    io.off("hello")
    io.on("hello", lambda socket: "another")
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("hello") == ["another"]


async def test_a_socket_s_own_handler_comes_first_and_alone(io: waypost.Server) -> None:
    calls: list[str] = []

    @io.event
    async def hello(socket: waypost.Socket, name: str) -> str:
        calls.append("namespace")
        return f"namespace {name}"

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
        if "token" in auth:

            @socket.on("hello")
            async def own(name: str) -> str:
                calls.append("socket")
                return f"socket {name}"

            @socket.once("goodbye")
            def once() -> str:
                socket.off("hello")
                return "bye"

    async with running(io):
        special, other = ModelClient(io), ModelClient(io)
        await special.connect(auth="special")
        await other.connect()
        assert await special.call("hello", "x") == ["socket x"]
        assert await other.call("hello", "x") == ["namespace x"]
        assert await special.call("goodbye") == ["bye"]
        assert await special.call("hello", "x") == ["namespace x"]
        assert calls == ["socket", "namespace", "namespace"]


async def test_both_disconnect_handlers_run_and_the_socket_s_own_first(io: waypost.Server) -> None:
    calls: list[str] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        socket.on("disconnect", lambda reason: calls.append(f"socket: {reason}"))

    @io.on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        calls.append(f"namespace: {reason}")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send("1")
        await until(lambda: len(calls) == 2)
        assert calls == ["socket: client namespace disconnect", "namespace: client namespace disconnect"]


async def test_catch_alls_see_every_event_before_its_handler(io: waypost.Server) -> None:
    calls: list[tuple[Any, ...]] = []

    @io.on_any
    async def first(socket: waypost.Socket, event: str, *args: Any) -> str:
        calls.append(("first", socket.id, event, *args))
        return "not the ack"

    @io.on_any
    def second(socket: waypost.Socket, event: str) -> None:
        calls.append(("second", socket.id, event))
        raise ValueError("its own fault")

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        socket.on_any(lambda event, *args: calls.append(("own", event, *args)))

    @io.event
    async def hello(socket: waypost.Socket, text: str) -> str:
        calls.append(("handler", text))
        return "the ack"

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("hello", "x") == ["the ack"]
        assert calls == [
            ("first", client.sid, "hello", "x"),
            ("second", client.sid, "hello"),
            ("own", "hello", "x"),
            ("handler", "x"),
        ]
        calls.clear()
        io.off_any(second)
        client.send('2["nobody"]')
        await until(lambda: len(calls) == 2)
        assert calls == [("first", client.sid, "nobody"), ("own", "nobody")]
        calls.clear()
        io.off_any()
        assert await client.call("hello", "y") == ["the ack"]
        assert calls == [("own", "hello", "y"), ("handler", "y")]


async def test_outgoing_catch_alls_see_every_event_for_each_client(io: waypost.Server) -> None:
    seen: list[tuple[Any, ...]] = []
    own: list[tuple[Any, ...]] = []

    @io.on_any_outgoing
    def broken(socket: waypost.Socket) -> None:
        raise ValueError("its own fault")

    @io.on_any_outgoing
    def watch(socket: waypost.Socket, event: str, *args: Any) -> None:
        seen.append((socket.id, event, *args))

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
        if "token" in auth:
            socket.on_any_outgoing(lambda *args: own.append(args))

    @io.event
    async def ask(socket: waypost.Socket) -> str:
        await socket.call("question", 1)
        return "no event"

    async with running(io):
        one, two = ModelClient(io), ModelClient(io)
        await one.connect(auth="own")
        await two.connect()
        await io.emit("news", {"a": b"\x00"}, "last")
        await until(lambda: len(one.events) == len(two.events) == 1)
        await io.volatile.emit("now")
        assert await one.call("ask") == ["no event"]
        assert seen == [
            (one.sid, "news", {"a": b"\x00"}, "last"),
            (two.sid, "news", {"a": b"\x00"}, "last"),
            (one.sid, "now"),
            (two.sid, "now"),
            (one.sid, "question", 1),
        ]
        assert own == [("news", {"a": b"\x00"}, "last"), ("now",), ("question", 1)]
        seen.clear()
        await two.cut()
        await io.emit("missed")
        await two.connect()
        assert (two.sid, "missed") in seen
        io.off_any_outgoing(watch)
        await two.cut()
        await two.connect()
        await io.emit("unseen")
        assert "unseen" not in [event for _, event, *_ in seen]


async def test_an_outgoing_catch_all_can_t_wait(io: waypost.Server) -> None:
    async def watch(socket: waypost.Socket) -> None: ...

    with pytest.raises(waypost.ConfigurationError, match="a plain def"):
        io.on_any_outgoing(watch)


async def test_the_methods_of_an_object_are_handlers(io: waypost.Server) -> None:
    class Chat:
        def __init__(self) -> None:
            self.seen: list[str] = []

        async def on_connect(self, socket: waypost.Socket, auth: dict[str, Any]) -> None:
            self.seen.append("connect")

        async def on_disconnect(self, socket: waypost.Socket, reason: str) -> None:
            self.seen.append(reason)

        async def on_say(self, socket: waypost.Socket, text: str) -> str:
            return self.shout(text)

        async def on_any(self, socket: waypost.Socket, event: str) -> None:
            self.seen.append(f"any {event}")

        def on_any_outgoing(self, socket: waypost.Socket, event: str) -> None:
            self.seen.append(f"out {event}")

        def shout(self, text: str) -> str:
            return text.upper()

    chat = io.of("/chat").register(Chat())
    async with running(io):
        client = ModelClient(io, "/chat")
        await client.connect()
        assert await client.call("say", "hi") == ["HI"]
        await io.of("/chat").emit("news")
        await client.cut()
        await until(lambda: len(chat.seen) == 4)
        assert chat.seen == ["connect", "any say", "out news", "transport close"]


async def test_an_object_without_handlers_is_refused(io: waypost.Server) -> None:
    with pytest.raises(waypost.ConfigurationError, match="methods named on_"):
        io.register(object())


@pytest.mark.parametrize(
    ("event", "hint"),
    [
        ("connection", "connect"),
        ("*", "on_any"),
        ("connect_error", "comes from a client"),
        ("newListener", "comes from a client"),
        ("removeListener", "comes from a client"),
        ("new_namespace", "parent"),
        ("conect", "'connect'"),
        ("disconect", "'disconnect'"),
        ("session_expire", "'session_expired'"),
        (7, "a name"),
        (print, "a name"),
    ],
)
async def test_names_nothing_would_ever_come_under_are_refused(io: waypost.Server, event: str, hint: str) -> None:
    with pytest.raises(waypost.ConfigurationError, match=hint):
        io.on(event)  # as a decorator: told before it has got its function
    with pytest.raises(waypost.ConfigurationError, match=hint):
        io.once(event, lambda socket: None)


async def test_names_that_only_resemble_ours_are_taken(io: waypost.Server) -> None:
    for event in ("connected", "disconnected", "reconnect", "session", "on"):
        io.on(event, lambda socket: None)


async def test_what_only_a_namespace_is_told_is_refused_on_a_socket(io: waypost.Server) -> None:
    refusals: list[waypost.ConfigurationError] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        with pytest.raises(waypost.ConfigurationError, match="namespace") as refusal:
            socket.on("connect", lambda: None)
        refusals.append(refusal.value)

    async with running(io):
        await ModelClient(io).connect()
        assert len(refusals) == 1


async def test_a_second_handler_of_an_event_is_refused(io: waypost.Server) -> None:
    for event in ("hello", "connect"):
        io.on(event, lambda socket: None)
        with pytest.raises(waypost.ConfigurationError, match="no second one"):
            io.on(event, lambda socket: None)
    with pytest.raises(waypost.ConfigurationError, match="no second one"):
        io.once("hello", lambda socket: None)
    with pytest.raises(waypost.ConfigurationError, match="on\\(\\)"):
        io.once("disconnect", lambda socket: None)


async def test_a_client_can_t_call_what_only_the_server_calls(io: waypost.Server) -> None:
    ended: list[Any] = []
    io.on("session_expired", ended.append)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('2["session_expired"]')
        io.on("echo", lambda socket: 1)
        assert await client.call("echo") == [1]
        assert ended == []


async def test_concurrent_handlers_overlap_up_to_their_bound(io: waypost.Server) -> None:
    running_now: list[int] = []
    most: list[int] = []
    gates = [asyncio.Event() for _ in range(3)]
    left: list[str] = []

    @io.event(concurrent=True)
    async def search(socket: waypost.Socket, number: int) -> int:
        running_now.append(number)
        most.append(len(running_now))
        await gates[number].wait()
        running_now.remove(number)
        return number

    @io.event
    async def quick(socket: waypost.Socket) -> str:
        return "done"

    io.on("disconnect", lambda socket, reason: left.append(f"{reason}, {len(running_now)} running"))
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('20["search",0]')
        client.send('21["search",1]')
        assert await client.call("quick", ack_id=9) == ["done"]
        client.send('22["search",2]')
        for _ in range(20):
            await asyncio.sleep(0)
        assert running_now == [0, 1]
        gates[1].set()
        await until(lambda: running_now == [0, 2])
        assert client.acks[1] == [1]
        assert await client.call("quick", ack_id=9) == ["done"]
        client.send("1")
        gates[2].set()
        await until(lambda: running_now == [0])
        assert left == []
        gates[0].set()
        await until(lambda: bool(left))
        assert left == ["client namespace disconnect, 0 running"]
        assert max(most) == 2


async def test_plain_functions_see_the_context_of_their_server(io: waypost.Server) -> None:
    tenant = contextvars.ContextVar[str]("tenant")

    @io.event
    def whose(socket: waypost.Socket) -> str:
        return tenant.get("nobody's")

    tenant.set("ours")
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("whose") == ["ours"]


async def test_plain_functions_run_in_as_many_threads_as_there_may_be() -> None:
    io = waypost.Server(drain_s=0.0, handler_threads=2)
    inside: list[int] = []
    most: list[int] = []
    go = threading.Event()

    @io.event
    def work(socket: waypost.Socket) -> None:
        inside.append(1)
        most.append(len(inside))
        go.wait(5)
        inside.pop()

    async with running(io):
        clients = [ModelClient(io) for _ in range(4)]
        for client in clients:
            await client.connect()
            client.send('20["work"]')
        await until(lambda: len(inside) == 2)
        go.set()
        await until(lambda: all(0 in client.acks for client in clients))
        assert max(most) == 2


async def test_what_a_socket_that_left_is_asked(io: waypost.Server) -> None:
    sockets: list[waypost.Socket] = []
    io.on("connect", sockets.append)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        [socket] = sockets
        # Its client may come back: the event is kept for it, and nothing is raised.
        await socket.emit("kept")
        await socket.leave("room")
        for refused in (socket.call("question"), socket.join("room"), socket.timeout(1).call("question")):
            with pytest.raises(waypost.NotConnected):
                await refused
        await client.connect()
        await client.wait_for(1)
        assert client.events == [["kept"]]
        client.send("1")
        await until(lambda: not sockets[1].connected)
        for refused in (sockets[1].emit("for nobody"), sockets[1].volatile.emit("for nobody")):
            with pytest.raises(waypost.NotConnected):
                await refused


async def test_a_def_handler_that_returns_a_coroutine_is_told_what_to_write(
    io: waypost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    @io.event
    def hello(socket: waypost.Socket) -> Any:
        return socket.emit("never")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('21["hello"]')
        await until(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "expected an async def that awaits Socket.emit(…)" in str(record.exc_info[1])
