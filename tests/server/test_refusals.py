"""How an event is answered that is not handled, by clients that know Waypost and by all others."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

import waypost
from tests.server.model_client import HANDSHAKE, ModelClient, running
from waypost.protocol.rejections import Rejection, read_rejection

REFUSED = [
    ("bare", Rejection(reason="Event refused", is_final=True)),
    ("full", Rejection(reason="sold out", is_final=True, data={"left": 0})),
    ("later", Rejection(reason="not yet", data=[1])),
    ("unencodable", Rejection(reason="look", is_final=True)),
    ("gate", Rejection(reason="closed", is_final=True, data=b"binary")),
    ("few", Rejection(reason="few takes 1 argument(s), 0 came", is_final=True)),
]
"""What every client is told."""

FAILED = [
    ("fails", Rejection(reason="its handling failed: ZeroDivisionError")),
    ("broken gate", Rejection(reason="its handling failed: RuntimeError")),
    ("nobody's", Rejection(reason='no handler for "nobody\'s"', is_final=True)),
    ("odd answer", Rejection(reason="its answer can't be sent", is_final=True)),
]
"""What only a Waypost client is told."""


def client_of(io: waypost.Server, revision: int) -> ModelClient:
    headers = {"waypost-client": str(revision)} if revision else {}
    return ModelClient(io, handshake=replace(HANDSHAKE, headers=headers))


@pytest.fixture
def io() -> waypost.Server:
    io = waypost.Server(drain_s=0.0)
    refusals = {
        "bare": waypost.EventRefused(),
        "full": waypost.EventRefused("sold out", {"left": 0}),
        "later": waypost.EventRefused("not yet", [1], is_final=False),
        "unencodable": waypost.EventRefused("look", object()),
        "fails": ZeroDivisionError("a secret"),
    }

    def refusing(error: Exception) -> Any:
        async def handler(socket: waypost.Socket) -> None:
            raise error

        return handler

    for name, error in refusals.items():
        io.on(name, refusing(error))

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        @socket.use
        async def gate(event: str, *args: Any) -> None:
            if event == "gate":
                raise waypost.EventRefused("closed", b"binary")
            if event == "broken gate":
                raise RuntimeError("a secret")

    @io.event
    async def few(socket: waypost.Socket, one: int) -> None: ...

    @io.on("odd answer")
    async def odd_answer(socket: waypost.Socket) -> object:
        return object()

    @io.event
    async def own(socket: waypost.Socket) -> dict[str, str]:
        return {"error": "a value of the application"}

    return io


@pytest.mark.parametrize("revision", [0, 1])
async def test_other_clients_are_told_refusals_only(io: waypost.Server, revision: int) -> None:
    async with running(io):
        client = client_of(io, revision)
        await client.connect()
        for event, rejection in REFUSED:
            expected: dict[str, Any] = {"error": rejection.reason}
            if rejection.data is not None:
                expected["data"] = rejection.data
            assert await client.call(event) == [expected]
        for number, (event, _) in enumerate(FAILED, 10):
            client.send(f'2{number}["{event}"]')
        assert await client.call("own") == [{"error": "a value of the application"}]
        assert set(client.acks) == {1}


async def test_waypost_clients_are_told_all_of_it_with_a_mark(io: waypost.Server) -> None:
    async with running(io):
        client = client_of(io, 2)
        await client.connect()
        for event, rejection in REFUSED + FAILED:
            assert read_rejection(await client.call(event)) == rejection
        answer = await client.call("own")
        assert answer == [{"error": "a value of the application"}]
        assert read_rejection(answer) is None


async def test_only_failures_are_errors_in_the_log(io: waypost.Server, caplog: pytest.LogCaptureFixture) -> None:
    failures: list[waypost.HandlerFailure] = []
    io.hooks.error(failures.append)
    async with running(io):
        client = client_of(io, 2)
        await client.connect()
        with caplog.at_level(logging.INFO):
            for event, _ in REFUSED[:5]:
                await client.call(event)
            await client.call("fails")
    assert [failure.event for failure in failures] == ["fails"]
    refusals = [record.getMessage() for record in caplog.records if "is refused" in record.getMessage()]
    assert len(refusals) == 5
    assert f"socket {client.sid}: event 'full' is refused: sold out" in refusals


async def test_an_unknown_name_is_a_warning_once(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    io.on("last", lambda socket: "here")
    async with running(io):
        client = client_of(io, 0)
        await client.connect()
        for _ in range(3):
            client.send('2["odd\\u202e\\n"]')
        for number in range(300):
            client.send(f'2["unknown {number}"]')
        await client.call("last")
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    said = [record.getMessage() for record in warnings]
    # A field is the name itself: it is for machines.
    assert vars(warnings[0])["event"] == "odd\u202e\n"
    assert said[0] == f"socket {client.sid} sent event 'odd\\u202e\\n', which has no handler"
    assert len(said) == len(set(said)) == 100


async def test_what_a_handler_of_all_events_saw_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    io.on_any(lambda socket, event: None)
    async with running(io):
        client = client_of(io, 2)
        await client.connect()
        assert read_rejection(await client.call("x")) == Rejection(reason="no handler for 'x'", is_final=True)
    assert not caplog.records
