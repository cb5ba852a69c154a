"""The seam for a cluster: two servers in one process that ask each other, and one that never answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from waypost.server.cluster.seam import Question, Reply
from waypost.server.namespaces.answering import answer


class Linked:
    """Another server in the same process, and maybe one that is gone."""

    def __init__(self, other: waypost.Server, *, gone: bool) -> None:
        self.other = other
        self.gone = gone
        self.asked: list[float] = []

    async def ask(self, namespace: str, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        self.asked.append(timeout_s)
        yield await answer(hub_of(self.other).directory.core(namespace), "other", question)
        if self.gone:
            await asyncio.sleep(0.01)
            yield Reply("gone", answered=False)


def make_server() -> waypost.Server:
    io = waypost.Server(drain_s=0.0, recovery=None)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, str]) -> None:
        socket.data["here"] = True
        await socket.join(auth.get("token", "room"))

    return io


@pytest.fixture
async def pair() -> AsyncIterator[tuple[waypost.Server, waypost.Server]]:
    io, other = make_server(), make_server()
    hub_of(io).services.others = Linked(other, gone=True)
    hub_of(other).services.others = Linked(io, gone=False)
    async with running(io), running(other):
        yield io, other


Pair = tuple[waypost.Server, waypost.Server]


async def test_a_server_that_is_alone_waits_for_nobody() -> None:
    io = make_server()
    async with running(io):
        assert (await io.server_side_call("question")).answers == {}
        await io.server_side_emit("news")
        assert not (await io.fetch_sockets()).is_partial


async def test_sockets_of_other_servers_are_fetched_and_who_did_not_answer_is_named(pair: Pair) -> None:
    io, other = pair
    here, there = ModelClient(io), ModelClient(other)
    await here.connect()
    await there.connect()
    fetched = await io.in_("room").fetch_sockets()
    assert {(socket.id, socket.server) for socket in fetched} == {(here.sid, ""), (there.sid, "other")}
    assert fetched.missing_servers == ("gone",)
    assert fetched.is_partial
    local = await io.local.fetch_sockets()
    assert [socket.id for socket in local] == [here.sid]
    assert not local.is_partial
    assert not (await other.fetch_sockets()).is_partial
    [remote] = [socket for socket in fetched if socket.server]
    assert remote.data == {"here": True}
    assert await remote.call("question") is None
    await remote.disconnect()
    await until(lambda: there.disconnected_by_server)
    assert here.connected


async def test_a_broadcast_with_acks_counts_the_clients_of_all_servers(pair: Pair) -> None:
    io, other = pair
    here, there, silent = ModelClient(io), ModelClient(other), ModelClient(other)
    silent.auto_ack = False
    for client in (here, there, silent):
        await client.connect()
    call = io.timeout(0.1).call("question")
    seen = [sid async for sid, _ in call]
    answers = call.so_far()
    assert sorted(seen) == sorted(answers.answers) == sorted(filter(None, (here.sid, there.sid)))
    assert answers.missing == (silent.sid,)
    assert answers.missing_servers == ("gone",)
    assert not answers.is_complete
    assert list((await io.local.call("question")).answers) == [here.sid]


async def test_server_side_events_reach_the_others_and_not_oneself(pair: Pair) -> None:
    io, other = pair
    received: list[str] = []
    io.on_server_side("news", lambda text: received.append(f"here: {text}"))

    @other.on_server_side("news")
    async def news(text: str) -> str:
        received.append(f"there: {text}")
        return "thanks"

    answers = await io.server_side_call("news", "hello")
    assert answers.answers == {"other": "thanks"}
    assert answers.missing == ("gone",)
    assert not answers.is_complete
    await other.server_side_emit("news", "back")
    assert received == ["there: hello", "here: back"]
    # A namespace's own, and nobody's.
    assert (await io.of("/x").server_side_call("news", "?")).missing == ("other", "gone")


async def test_a_handler_that_fails_or_does_not_fit_is_no_answer(pair: Pair) -> None:
    io, other = pair

    @other.on_server_side("fail")
    async def fail() -> None:
        raise ValueError("its own business")

    assert (await io.server_side_call("fail")).missing == ("other", "gone")
    assert (await io.server_side_call("fail", "too", "many")).missing == ("other", "gone")

    @other.on_server_side("half")
    async def half(number: int) -> float:
        return number / 2

    assert (await io.server_side_call("half", 3)).answers == {"other": 1.5}
    assert (await io.server_side_call("half", "3")).missing == ("other", "gone")


@pytest.mark.parametrize("name", ["connect", "connection", "new_namespace", "disconnect"])
async def test_reserved_names_are_refused(name: str) -> None:
    io = make_server()
    with pytest.raises(waypost.EncodingFailed, match="reserved"):
        await io.server_side_emit(name)
    with pytest.raises(waypost.EncodingFailed, match="reserved"):
        await io.server_side_call(name)
    with pytest.raises(waypost.ConfigurationError, match="not reserved"):
        io.on_server_side(name, lambda: None)
    io.on_server_side("news", lambda: None)
    with pytest.raises(waypost.ConfigurationError, match="no second one"):
        io.on_server_side("news", lambda: None)
