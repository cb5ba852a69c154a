"""Calls from threads: those on a foreign event loop change nothing, and `from_thread` takes them to the server's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, assert_type

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from tests.support.require import require_module

CALLS: dict[str, Callable[[waypost.Server, waypost.Socket], Awaitable[Any]]] = {
    "io.emit": lambda io, socket: io.emit("told", 1),
    "io.volatile.emit": lambda io, socket: io.volatile.emit("told", 1),
    "io.of.emit": lambda io, socket: io.of("/other").emit("told", 1),
    "parent.emit": lambda io, socket: io.of(lambda name, auth: False).emit("told", 1),
    "io.call": lambda io, socket: io.call("told", 1),
    "io.fetch_sockets": lambda io, socket: io.fetch_sockets(),
    "io.sockets_join": lambda io, socket: io.sockets_join("room"),
    "io.sockets_leave": lambda io, socket: io.sockets_leave("room"),
    "io.disconnect_sockets": lambda io, socket: io.disconnect_sockets(),
    "io.server_side_emit": lambda io, socket: io.server_side_emit("told"),
    "io.queue_infos": lambda io, socket: io.queue_infos(),
    "io.close": lambda io, socket: io.close(),
    "socket.emit": lambda io, socket: socket.emit("told", 1),
    "socket.call": lambda io, socket: socket.call("told", 1),
    "socket.join": lambda io, socket: socket.join("room"),
    "socket.leave": lambda io, socket: socket.leave("room"),
    "socket.consume": lambda io, socket: socket.consume("mail"),
    "socket.disconnect": lambda io, socket: socket.disconnect(),
    "queue.emit": lambda io, socket: io.queue("mail").emit("letter", 1),
    "queue.emit_many": lambda io, socket: io.queue("mail").emit_many([waypost.NewMessage("letter", 1)]),
    "queue.configure": lambda io, socket: io.queue("mail").configure(lease_s=3),
    "queue.delete": lambda io, socket: io.queue("mail").delete(),
    "consumer.create": lambda io, socket: io.queue("mail").get_consumer("x").create(),
    "consumer.seek": lambda io, socket: io.queue("mail").get_consumer("old").seek("new"),
    "consumer.delete": lambda io, socket: io.queue("mail").get_consumer("old").delete(),
}


@pytest.fixture(params=["memory", "sqlite", "no recovery"])
async def io(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[waypost.Server]:
    store = tmp_path / "store.db" if request.param == "sqlite" else "memory:"
    options: dict[str, Any] = {"recovery": None} if request.param == "no recovery" else {}
    async with running(waypost.Server(store=store, drain_s=0.0, **options)) as server:
        yield server


async def meet(io: waypost.Server) -> tuple[ModelClient, waypost.Socket]:
    met: list[waypost.Socket] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        met.append(socket)

    client = ModelClient(io)
    await client.connect()
    return client, met[0]


async def footprint(io: waypost.Server) -> Any:
    """Return what a call could have changed."""
    queue = io.queue("mail")
    journals = {name: state.newest_offset for name, state in io.state().journals.items()}
    consumers = [(one.name, one.offset, one.attached) for one in await queue.consumers()]
    rooms = {one.id: one.rooms for one in await io.fetch_sockets()}
    return journals, consumers, rooms, [one.id for one in await queue.peek()], queue.options


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run a function in a thread of the application's, which has no event loop."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # noqa: BLE001  # compared by the test
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    await until(lambda: bool(outcome))
    return outcome[0]


async def test_a_call_on_a_foreign_event_loop_changes_nothing(io: waypost.Server) -> None:
    client, socket = await meet(io)
    io.of("/other")
    await io.queue("mail").emit("letter", 0, id="first")
    await io.queue("mail").get_consumer("old").create()
    before = await footprint(io)
    for name, call in CALLS.items():

        async def elsewhere(call: Callable[..., Awaitable[Any]] = call) -> Any:
            return await call(io, socket)

        error = await in_thread(lambda: asyncio.run(elsewhere()))  # used before the next turn
        assert isinstance(error, waypost.WrongEventLoop), (name, error)
        assert "from_thread" in str(error)
        assert await footprint(io) == before, name
    assert client.connected
    assert client.events == []


async def test_a_call_on_no_asyncio_loop_is_refused(io: waypost.Server) -> None:
    trio = require_module("trio")
    error = await in_thread(lambda: trio.run(io.emit, "told"))
    assert isinstance(error, waypost.WrongEventLoop)


async def test_a_def_handler_uses_from_thread(io: waypost.Server) -> None:
    @io.event
    def weigh(socket: waypost.Socket, parcel: int) -> list[Any]:
        socket.from_thread.join("weighed")
        io.from_thread.to("weighed").emit("weighed", parcel)
        socket.from_thread.volatile.emit("hint", parcel)
        receipt = io.queue("mail").from_thread.emit("letter", parcel, id="one")
        io.queue("mail").get_consumer("post").from_thread.create()
        answer = socket.from_thread.call("sure?", parcel)
        (found,) = io.from_thread.fetch_sockets()
        found.from_thread.emit("found")
        answers = io.from_thread.timeout(5).call("all?")
        return [receipt.id, answer, sorted(found.rooms) == sorted(socket.rooms), answers.is_complete]

    client, _ = await meet(io)
    assert await client.call("weigh", 7) == [["one", None, True, True]]
    names = [event[0] for event in client.events]
    assert names == ["weighed", "hint", "sure?", "found", "all?"]
    assert [one.args for one in await io.queue("mail").peek()] == [[7]]
    assert [one.name for one in await io.queue("mail").consumers()] == ["post"]


async def test_from_thread_has_every_awaited_method() -> None:
    pairs: list[tuple[type, type]] = [
        (waypost.Operator, waypost.OperatorFromThread),
        (waypost.RemoteSocket, waypost.RemoteSocketFromThread),
        (waypost.SocketOperator, waypost.SocketOperatorFromThread),
        (waypost.Socket, waypost.SocketFromThread),
        (waypost.Queue, waypost.QueueFromThread),
        (waypost.Consumer, waypost.ConsumerFromThread),
    ]
    for awaited, blocking in pairs:
        for name, method in vars(awaited).items():
            if asyncio.iscoroutinefunction(method) and not name.startswith("_"):
                assert getattr(blocking, name).__doc__ == method.__doc__, (awaited, name)


async def test_type_checkers_see_arguments_and_results(io: waypost.Server) -> None:
    def work() -> None:
        assert_type(io.from_thread.emit("told", 1), None)
        assert_type(io.from_thread.fetch_sockets(), waypost.FetchedSockets)
        assert_type(io.from_thread.call("told"), waypost.BroadcastAnswers)
        assert_type(io.queue("mail").from_thread.emit("letter", id="a"), waypost.Receipt)
        assert_type(io.queue("mail").from_thread.purge(upto=1), int)
        with pytest.raises(waypost.EncodingFailed):
            io.from_thread.emit(1)  # type: ignore[arg-type]

    assert await in_thread(work) is None


async def test_an_error_comes_to_the_thread(io: waypost.Server) -> None:
    error = await in_thread(lambda: io.from_thread.emit("told", object()))
    assert isinstance(error, waypost.EncodingFailed)
    error = await in_thread(io.queue("mail").get_consumer("nobody").from_thread.info)
    assert isinstance(error, waypost.StorageError)


async def test_any_function_is_awaited_on_the_loop(io: waypost.Server) -> None:
    await io.queue("mail").emit("letter")
    infos = await in_thread(lambda: io.from_thread.run(io.queue_infos, limit=1))
    assert [info.name for info in infos] == ["mail"]


async def test_on_the_event_loop_itself_from_thread_says_to_await(io: waypost.Server) -> None:
    with pytest.raises(waypost.ConfigurationError, match="await emit itself"):
        io.from_thread.emit("told")


async def test_before_the_start_and_after_the_stop() -> None:
    io = waypost.Server(drain_s=0.0)
    for _ in range(2):
        error = await in_thread(lambda: io.from_thread.emit("told"))
        assert isinstance(error, waypost.StoreClosed)
        assert "lifespan" in str(error)
        await io.start()
        await io.close()


async def test_a_thread_is_released_when_the_loop_ends_without_a_close() -> None:
    io = waypost.Server()
    is_stuck, error = threading.Event(), []

    def ask() -> None:
        try:
            io.from_thread.timeout(60).call("question")
        except BaseException as problem:  # noqa: BLE001  # compared by the test
            error.append(problem)

    async def serve() -> None:
        await io.start()
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        await until(lambda: bool(client.events))
        is_stuck.set()

    await in_thread(lambda: asyncio.run(serve()))
    assert is_stuck.is_set()
    await until(lambda: bool(error))


async def test_async_to_sync_in_a_thread_of_the_loop_still_works(io: waypost.Server) -> None:
    sync = require_module("asgiref.sync")
    client, _ = await meet(io)

    def view() -> None:
        sync.async_to_sync(io.emit)("told", 1)
        sync.async_to_sync(io.queue("mail").emit)("letter", 1)

    await sync.sync_to_async(view)()
    assert await client.wait_for(1) == [["told", 1]]
    assert len(await io.queue("mail").peek()) == 1
    error = await in_thread(view)
    assert isinstance(error, waypost.WrongEventLoop)
    assert len(await io.queue("mail").peek()) == 1


async def test_a_socket_that_left_ends_its_own_def_handler_quietly(
    io: waypost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    @io.event
    def work(socket: waypost.Socket) -> None:
        socket.from_thread.disconnect()
        try:
            socket.from_thread.emit("too late")
        finally:
            done.set()

    client, _ = await meet(io)
    client.send('2["work"]')
    await until(done.is_set)
    await until(lambda: not hub_of(io).tasks)
    assert not caplog.records
