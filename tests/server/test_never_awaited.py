"""What was called and not awaited did nothing: Python says so, with the name of the method that was called."""

from __future__ import annotations

import gc
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, running, until
from waypost.client.client import VolatileEmitter

PUBLIC = [getattr(waypost, name) for name in waypost.__all__]
ASYNC = [
    (owner.__name__, name, method)
    for owner in [*PUBLIC, VolatileEmitter]
    if inspect.isclass(owner)
    for name, method in inspect.getmembers(owner, inspect.isfunction)
    if not name.startswith("_")
]


def warned_by(call: Callable[[], Any]) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
        gc.collect()
    (warning,) = caught
    assert warning.category is RuntimeWarning
    return str(warning.message)


@pytest.mark.parametrize(("owner", "name", "method"), ASYNC)
def test_a_method_that_gives_a_coroutine_is_one(owner: str, name: str, method: Any) -> None:
    """A plain function that returns another's coroutine would warn with that one's name."""
    returned = str(inspect.signature(method, eval_str=False).return_annotation)
    if returned.startswith(("Awaitable", "Coroutine")):
        pytest.fail(f"{owner}.{name} returns {returned}")
    if inspect.iscoroutinefunction(method):
        assert method.__qualname__.endswith(f".{name}")


async def test_methods_warn_with_their_names() -> None:
    io = waypost.Server(drain_s=0.0)
    sockets: list[waypost.Socket] = []
    io.on("connect", sockets.append)
    client = waypost.Client("http://127.0.0.1:1")
    async with running(io):
        await ModelClient(io).connect()
        (socket,) = sockets
        calls: list[tuple[str, Callable[[], Any]]] = [
            ("emit", lambda: io.emit("x")),
            ("emit", lambda: io.of("/x").emit("x")),
            ("emit", lambda: io.to("room").emit("x")),
            ("fetch_sockets", io.fetch_sockets),
            ("Queue.emit", lambda: io.queue("jobs").emit("x")),
            ("Socket.emit", lambda: socket.emit("x")),
            ("Socket.call", lambda: socket.call("x")),
            ("Socket.join", lambda: socket.join("room")),
            ("SocketOperator.emit", lambda: socket.volatile.emit("x")),
            ("Client.emit", lambda: client.emit("x")),
            ("Client.call", lambda: client.call("x")),
            ("Client.connect", client.connect),
            ("VolatileEmitter.emit", lambda: client.volatile.emit("x")),
        ]
        for name, call in calls:
            message = warned_by(call)
            assert message.endswith(f"{name}' was never awaited"), message
        for to in (io, io.to("room"), io.of("/x")):
            message = warned_by(lambda to=to: to.call("question"))  # type: ignore[misc]
            assert message == "call of 'question' was never awaited, and so not sent: write 'await …call(…)'"


class Awaitable:
    """Something else that can be awaited, as a call to many is."""

    def __await__(self) -> Any:
        yield


async def test_a_def_handler_that_returns_what_it_should_await_is_told(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    io.on("hello", lambda socket: Awaitable())
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('21["hello"]')
        await until(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "an async def that awaits Awaitable(…)" in str(record.exc_info[1])
