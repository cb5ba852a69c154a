"""Events of clients' outboxes, which are sent again until they are answered: between model clients and a server."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import HANDSHAKE, ModelClient, hub_of, running, until
from waypost.protocol.extension import OutboxMark
from waypost.protocol.rejections import Rejection, read_rejection

OURS = replace(HANDSHAKE, headers={"waypost-client": "1"})
SECRET = "a-secret-of-20-chars"


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.fixture
def io() -> waypost.Server:
    return waypost.Server(drain_s=0.0)


@pytest.fixture(params=["memory", "sqlite"])
def store_spec(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else str(tmp_path / "store.db")


class Sender(ModelClient):
    """A client with an outbox."""

    def __init__(self, io: waypost.Server, namespace: str = "/", *, secret: str = SECRET) -> None:
        super().__init__(io, namespace, handshake=OURS)
        self.secret = secret
        self.next_ack = 100

    def put(self, sequence: int, event: str, *args: Any, message: str = "", settled: int = 0) -> int:
        """Send an event of the outbox; returns its ack id."""
        mark = OutboxMark(client=self.secret, message=message or f"m{sequence}", sequence=sequence, settled=settled)
        self.next_ack += 1
        self.send(f"2{self.next_ack}" + json.dumps([event, *args, mark.argument()]))
        return self.next_ack

    async def answer_to(self, ack_id: int) -> list[Any]:
        await until(lambda: ack_id in self.acks)
        return self.acks[ack_id]

    async def ask(self, sequence: int, event: str, *args: Any, message: str = "", settled: int = 0) -> list[Any]:
        return await self.answer_to(self.put(sequence, event, *args, message=message, settled=settled))

    async def rejection(self, sequence: int, event: str, *args: Any) -> Rejection:
        rejection = read_rejection(await self.ask(sequence, event, *args))
        assert rejection is not None
        return rejection


def count(io: waypost.Server) -> list[Any]:
    """Handle "order" by counting; returns what was handled."""
    handled: list[Any] = []

    @io.event
    async def order(socket: waypost.Socket, *args: Any) -> Any:
        handled.append((socket.message_id, *args))
        return len(handled), {"for": args}

    return handled


async def test_a_repeat_gets_the_same_answer_and_no_handler(io: waypost.Server) -> None:
    handled = count(io)
    async with running(io):
        client = Sender(io)
        await client.connect()
        assert await client.ask(1, "order", "a") == [1, {"for": ["a"]}]
        assert await client.ask(1, "order", "a") == [1, {"for": ["a"]}]
        assert await client.ask(2, "order") == [2, {"for": []}]
        await client.cut()
        await client.connect()
        assert await client.ask(1, "order", "a") == [1, {"for": ["a"]}]
        assert await client.call("order", "plain") == [3, {"for": ["plain"]}]
    assert handled == [("m1", "a"), ("m2",), (None, "plain")]


async def test_the_id_is_that_of_the_handler_s_own_socket(io: waypost.Server) -> None:
    sockets: list[waypost.Socket] = []
    io.on("connect", sockets.append)

    @io.event
    async def order(socket: waypost.Socket) -> list[Any]:
        return [one.message_id for one in sockets] + [socket.message_id]

    async with running(io):
        await ModelClient(io).connect()
        client = Sender(io)
        await client.connect()
        assert await client.ask(1, "order") == [[None, "m1", "m1"]]
        assert await client.call("order") == [[None, None, None]]
    assert sockets[1].message_id is None


async def test_an_answer_outlives_the_server(tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        io = waypost.Server(store=str(tmp_path / "store.db"), drain_s=0.0)
        runs.append(count(io))
        async with running(io):
            client = Sender(io)
            await client.connect()
            assert await client.ask(1, "order", "a") == [1, {"for": ["a"]}]
            assert await client.ask(2, "order", "b") == [2, {"for": ["b"]}]
    assert runs == [[("m1", "a"), ("m2", "b")], []]


async def test_a_repeat_waits_for_the_run_that_is_on_its_way(io: waypost.Server) -> None:
    runs: list[int] = []
    may_end = asyncio.Event()

    @io.event
    async def order(socket: waypost.Socket, n: int) -> int:
        runs.append(n)
        await may_end.wait()
        return n

    @io.on("slow", concurrent=True)
    async def slow(socket: waypost.Socket) -> str:
        return str(await order(socket, 9))

    async with running(io):
        first, second = Sender(io), Sender(io)
        await first.connect()
        first.put(1, "order", 1)
        first.put(2, "slow")
        await until(lambda: runs == [1])
        await first.cut()
        await second.connect()
        asked = [second.put(1, "order", 1), second.put(2, "slow")]
        await asyncio.sleep(0)
        may_end.set()
        assert [await second.answer_to(ack_id) for ack_id in asked] == [[1], ["9"]]
    assert runs == [1, 9]


async def test_what_an_older_connection_brought_and_was_not_begun_with_is_left_to_the_repeat(
    io: waypost.Server,
) -> None:
    runs: list[int] = []
    may_end = asyncio.Event()

    @io.event
    async def block(socket: waypost.Socket) -> None:
        await may_end.wait()

    @io.event
    async def order(socket: waypost.Socket, n: int) -> None:
        runs.append(n)

    async with running(io):
        half_open, client = Sender(io), Sender(io)
        await half_open.connect()
        half_open.send('2["block"]')
        for n in (1, 2, 3):
            half_open.put(n, "order", n)
        await client.connect()
        for n in (1, 2, 3, 4):
            await client.ask(n, "order", n, settled=n - 1)
        may_end.set()
        await client.ask(5, "order", 5, settled=4)
    assert runs == [1, 2, 3, 4, 5]


async def test_what_will_never_be_handled_is_said_to_be_so(io: waypost.Server) -> None:
    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        @socket.use
        async def gate(event: str, *args: Any) -> None:
            if event == "secret":
                raise waypost.EventRefused("not for you", {"why": 1})

    @io.event
    async def number(socket: waypost.Socket, n: int) -> None:
        raise waypost.EventRefused("no such number", b"binary")

    @io.on("object")
    async def unsendable(socket: waypost.Socket) -> None:
        raise waypost.EventRefused("look", object())

    async with running(io):
        client = Sender(io)
        await client.connect()
        assert await client.rejection(1, "secret") == Rejection(reason="not for you", is_final=True, data={"why": 1})
        assert await client.rejection(2, "nobody's") == Rejection(reason='no handler for "nobody\'s"', is_final=True)
        assert (await client.rejection(3, "number")).reason == "number takes 1 argument(s), 0 came"
        mismatch = await client.rejection(4, "number", "x")
        assert mismatch.is_final
        assert mismatch.data["parameter"] == "n"
        assert await client.rejection(5, "number", 5) == Rejection(
            reason="no such number", is_final=True, data=b"binary"
        )
        assert await client.rejection(6, "object") == Rejection(reason="look", is_final=True)


async def test_a_repeat_of_what_was_refused_is_refused(tmp_path: Path) -> None:
    runs: list[str] = []
    refusals: list[list[Rejection]] = []
    for _ in range(2):
        io = waypost.Server(store=str(tmp_path / "store.db"), drain_s=0.0)

        @io.event
        async def order(socket: waypost.Socket, what: str) -> None:
            runs.append(what)
            if what == "sold out" and runs.count("sold out") == 1:
                raise waypost.EventRefused("too late", {"sold": 1})

        @io.on("slow", concurrent=True)
        async def slow(socket: waypost.Socket) -> None:
            runs.append("slow")
            raise waypost.EventRefused("too slow")

        if refusals:
            io.event(nobodys)  # there is a handler now, but what came behind has been handled
        async with running(io):
            client = Sender(io)
            await client.connect()
            events = (("order", "sold out"), ("order",), ("slow",), ("nobodys",))
            refusals.append([await client.rejection(n, *event) for n, event in enumerate(events, 1)])
            assert await client.ask(9, "order", "another") == []
    assert refusals[0] == refusals[1]
    assert [refusal.reason for refusal in refusals[0]] == [
        "too late",
        "order takes 1 argument(s), 0 came",
        "too slow",
        "no handler for 'nobodys'",
    ]
    assert runs == ["sold out", "slow", "another"]


async def nobodys(socket: waypost.Socket) -> None:
    raise AssertionError("handled behind events that were sent later")


async def test_what_failed_holds_the_later_ones_back_until_it_is_repeated(io: waypost.Server) -> None:
    runs: list[int] = []
    failing = [ValueError("a secret"), waypost.Reject("no van", retry_in_s=7)]

    @io.event
    async def order(socket: waypost.Socket, n: int) -> int:
        if n == 2 and failing:
            raise failing.pop(0)
        runs.append(n)
        return n

    async with running(io):
        client, other = Sender(io), Sender(io, secret="another secret of theirs")
        await client.connect()
        await other.connect()
        asked = [client.put(n, "order", n) for n in (1, 2, 3, 4)]
        answers = [await client.answer_to(ack_id) for ack_id in asked]
        assert answers[0] == [1]
        assert [read_rejection(answer) for answer in answers[1:]] == [
            Rejection(reason="its handling failed: ValueError"),
            Rejection(reason=""),
            Rejection(reason=""),
        ]
        assert await other.ask(9, "order", 9) == [9]
        assert await client.rejection(2, "order", 2) == Rejection(reason="no van", retry_in_s=7)
        await client.cut()
        await client.connect()
        assert await client.rejection(3, "order", 3) == Rejection(reason="")
        for n in (2, 3, 4):
            assert await client.ask(n, "order", n) == [n]
    assert runs == [1, 9, 2, 3, 4]


async def test_what_failed_and_is_given_up_holds_nothing_back(io: waypost.Server) -> None:
    @io.event
    async def order(socket: waypost.Socket, n: int) -> int:
        return 6 // n

    async with running(io):
        client = Sender(io)
        await client.connect()
        assert await client.rejection(1, "order", 0) == Rejection(reason="its handling failed: ZeroDivisionError")
        assert await client.rejection(2, "order", 2) == Rejection(reason="")
        assert await client.ask(2, "order", 2, settled=1) == [3]


async def test_a_middleware_that_raises_fails_it(io: waypost.Server) -> None:
    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        @socket.use
        async def gate(event: str, *args: Any) -> None:
            raise ZeroDivisionError

    async with running(io):
        client = Sender(io)
        await client.connect()
        assert await client.rejection(1, "order") == Rejection(reason="its handling failed: ZeroDivisionError")
        client.send('27["order"]')
        assert await client.rejection(1, "order") == Rejection(reason="its handling failed: ZeroDivisionError")
        assert 7 not in client.acks


async def test_answers_are_told_to_their_client_only(io: waypost.Server) -> None:
    handled = count(io)
    io.of("/other").on("order", lambda socket: "elsewhere")
    async with running(io):
        client, other, elsewhere = Sender(io), Sender(io, secret=SECRET.upper()), Sender(io, "/other")
        for one in (client, other, elsewhere):
            await one.connect()
        assert await client.ask(1, "order", "mine") == [1, {"for": ["mine"]}]
        assert await other.ask(1, "order", "yours") == [2, {"for": ["yours"]}]
        assert await elsewhere.ask(1, "order") == ["elsewhere"]
        assert len(handled) == 2


async def test_what_the_client_has_is_forgotten(io: waypost.Server) -> None:
    handled = count(io)
    async with running(io):
        client = Sender(io)
        await client.connect()
        await client.ask(1, "order")
        await client.ask(2, "order", settled=1)
        assert await client.ask(1, "order") == [3, {"for": []}]
        assert await client.ask(2, "order") == [2, {"for": []}]
        # Another message with the number of one before it: an older copy of the client's file was put back.
        assert await client.ask(2, "order", message="another") == [4, {"for": []}]
    assert len(handled) == 4


async def test_an_answer_that_no_packet_can_carry_is_an_empty_one(io: waypost.Server) -> None:
    runs: list[int] = []

    @io.event
    async def order(socket: waypost.Socket) -> object:
        runs.append(1)
        return object()

    async with running(io):
        client = Sender(io)
        await client.connect()
        assert await client.ask(1, "order") == []
        assert await client.ask(1, "order") == []
    assert runs == [1]


async def test_without_the_store_nothing_is_handled() -> None:
    io = waypost.Server(drain_s=0.0, recovery=None)
    handled = count(io)
    async with running(io):
        client = Sender(io)
        await client.connect()
        await hub_of(io).services.store.close()
        assert await client.rejection(1, "order") == Rejection(reason="the server's store does not answer")
        assert handled == []


@pytest.mark.parametrize(
    "changed", [{"client": "short"}, {"client": "x" * 1000}, {"message": ""}, {"sequence": 0}, {"settled": 1}]
)
async def test_a_mark_that_can_t_be_right_is_taken_off(io: waypost.Server, changed: dict[str, Any]) -> None:
    handled = count(io)
    mark = OutboxMark(client=SECRET, message="m", sequence=1, settled=0)
    fields = {**mark.argument()["_waypost"], **changed}
    async with running(io):
        ours, official = Sender(io), ModelClient(io)
        for client in (ours, official):
            await client.connect()
            assert len(await client.call("order", {"_waypost": fields})) == 2
    assert handled == [(None,), (None, {"_waypost": fields})]


async def test_an_answer_that_was_given_up_is_told(store_spec: str) -> None:
    io = waypost.Server(store=store_spec, drain_s=0.0, max_answer_bytes=600)
    runs: list[str | None] = []

    @io.event
    async def large(socket: waypost.Socket) -> str:
        runs.append(socket.message_id)
        return "x" * 1_000

    async with running(io):
        client = Sender(io)
        await client.connect()
        assert await client.ask(1, "large") == ["x" * 1_000]
        rejection = await client.rejection(1, "large")
        assert rejection.is_final
        assert "it was handled, but its answer was given up" in rejection.reason
        assert runs == ["m1"]


async def test_answers_are_counted_for_accounts_or_addresses(store_spec: str) -> None:
    def account(socket: waypost.Socket) -> str | None:
        token: str | None = socket.handshake.auth.get("token")
        if token == "broken":
            raise RuntimeError("no account")
        return token

    io = waypost.Server(store=store_spec, drain_s=0.0, max_answer_bytes_per_address=3_000, answer_account=account)
    handled = count(io)

    async def kept(client: Sender, auth: str) -> bool:
        """Tell whether a client's answer is still there after another client of its address has got larger ones."""
        await client.connect(auth)
        await client.ask(1, "order", "x" * 1_000)
        for number in range(1, 4):
            other = Sender(io, secret=f"made up {number} of {client.secret}")
            other.handshake = client.handshake
            await other.connect()
            await other.ask(1, "order", "x" * 1_000)
        before = len(handled)
        answer = await client.ask(1, "order")
        assert len(handled) == before
        return read_rejection(answer) is None

    async with running(io):
        for number, (auth, address, is_kept) in enumerate(
            [
                ("", "203.0.113.7", False),
                ("ada", "203.0.113.8", True),
                ("broken", "203.0.113.9", False),
                ("", "::1", True),
            ]
        ):
            client = Sender(io, secret=f"{SECRET} {number}")
            client.handshake = replace(OURS, address=address)
            assert await kept(client, auth) is is_kept
