"""Once a connection has ended, all of it is freed at once: the garbage collector finds nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from tests.support.raw import join, open_polling, open_websocket
from tests.transports.asgi_client import ask, serving, sid_of, websocket
from tests.transports.asgi_client import join as join_polling
from tests.transports.direct_site import serving as serving_directly
from waypost.server.basics.handshake import Handshake
from waypost.server.connections.connection import Connection
from waypost.server.namespaces.channel import Channel
from waypost.server.namespaces.peer import Peer

pytestmark = pytest.mark.asyncio

_OURS = (Connection, Channel, Peer, Handshake, waypost.Socket)


def living() -> list[object]:
    return [each for each in gc.get_objects() if isinstance(each, _OURS)]


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Let nothing be collected meanwhile."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def make_server(**options: Any) -> waypost.Server:
    io = waypost.Server(**{"drain_s": 0.0, **options})

    @io.use
    async def refuse(socket: waypost.Socket) -> None:
        if isinstance(socket.handshake.auth, dict) and "refuse" in socket.handshake.auth:
            raise waypost.ConnectionRefused("not you")

    @io.event
    async def echo(socket: waypost.Socket, *arguments: Any) -> tuple[Any, ...]:
        return arguments

    @io.event
    async def fail(socket: waypost.Socket) -> None:
        raise ValueError("of the handler's own")

    @io.event
    async def closed_over(socket: waypost.Socket) -> None:
        socket.on("later", lambda _: socket.id)

    @io.on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        await asyncio.sleep(0)

    return io


async def close_in_order(io: waypost.Server) -> None:
    where = await join_polling(io)
    await ask(io, where, method="POST", body=[b'421["echo",1]'])
    await ask(io, where)
    await ask(io, where, method="POST", body=[b'42["closed_over"]'])
    await ask(io, where, method="POST", body=[b"1"])


async def be_cut(io: waypost.Server) -> None:
    sid_of(await ask(io))
    await join_polling(io)
    for connection in hub_of(io).engine.connections():
        connection.abort("the test's own")


async def be_refused(io: waypost.Server) -> None:
    where = f"EIO=4&transport=polling&sid={sid_of(await ask(io))}"
    await ask(io, where, method="POST", body=[b'40{"refuse":1}'])
    assert b"44{" in (await ask(io, where)).body
    await ask(io, where, method="POST", body=[b"1"])


async def break_the_protocol(io: waypost.Server) -> None:
    where = await join_polling(io)
    assert (await ask(io, where, method="POST", body=[b"9"])).status == 400
    async with websocket(io) as socket:
        await socket.next()
        socket.write("9")
        await socket.next()


async def use_a_websocket(io: waypost.Server) -> None:
    async with websocket(io) as socket:
        socket.write("40")
        while not (await socket.next()).get("text", "").startswith("40"):
            pass


async def meet_a_handler_that_fails(io: waypost.Server) -> None:
    where = await join_polling(io)
    await ask(io, where, method="POST", body=[b'421["fail"]'])
    await ask(io, where, method="POST", body=[b'421["echo",1]'])
    await ask(io, where)
    await ask(io, where, method="POST", body=[b"1"])


async def leave_the_namespace(io: waypost.Server) -> None:
    where = await join_polling(io)
    await ask(io, where, method="POST", body=[b"41"])
    await ask(io, where, method="POST", body=[b"1"])


@pytest.mark.parametrize(
    "end",
    [
        close_in_order,
        be_cut,
        be_refused,
        break_the_protocol,
        use_a_websocket,
        meet_a_handler_that_fails,
        leave_the_namespace,
    ],
)
@pytest.mark.parametrize("recovery", [waypost.Recovery(), None], ids=["recovery", "none"])
async def test_nothing_is_left_of_a_connection(
    end: Callable[[waypost.Server], Awaitable[None]],
    recovery: waypost.Recovery | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "waypost.hooks")  # pytest keeps what is logged, with its traceback
    io = make_server(recovery=recovery)
    async with serving(io):
        await end(io)  # what is made once, and kept
        await until(lambda: not hub_of(io).engine.connections())
        with uncollected():
            before = len(living())
            for _ in range(5):
                await end(io)
            await until(lambda: not hub_of(io).engine.connections())
            await until(lambda: len(living()) <= before)


async def test_nothing_is_left_of_one_whose_reading_was_paused() -> None:
    io = make_server(max_pending_events=2, recovery=None)
    async with running(io):
        with uncollected():
            others = living()
            client = ModelClient(io)
            await client.connect()
            for _ in range(10):
                client.send('2["echo",1]')
            assert client.connection is not None
            client.connection.abort("the test's own")
            client.connection = None
            del client
            # Other tests of this process may have left some, which a failure's traceback holds.
            known = {id(each) for each in others}
            ours = (Connection, Channel, Peer)
            await until(lambda: not [each for each in living() if isinstance(each, ours) and id(each) not in known])


async def _over_real_sockets() -> None:
    async with serving_directly() as site:
        with uncollected():
            for _ in range(5):
                async with open_websocket(site.port) as raw:
                    await join(raw)
                async with open_polling(site.port) as polling:
                    await join(polling)
                    await polling.post(b"1")
            await until(lambda: not hub_of(site.io).engine.connections())
            assert site.server is not None
            await until(lambda: site.server is not None and not site.server.server_state.connections)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            ours = [each for each in gc.garbage if type(each).__module__.startswith(("waypost", "uvicorn"))]
            assert ours == []


async def test_nothing_is_left_over_real_sockets() -> None:
    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_over_real_sockets())

    try:
        await asyncio.to_thread(run)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
