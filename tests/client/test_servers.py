"""One table of tests against three real servers: Waypost, Node's socket.io and python-socketio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import waypost
from tests.client.serving import Recorder
from tests.support.link import Link
from tests.support.require import require_node
from tests.support.server_process import ServerProcess
from tests.support.waiting import until
from waypost.checking.constraints import Transport

SERVERS = ("waypost", pytest.param("node", marks=pytest.mark.node), "python-socketio")
RECOVERING = ("waypost", "node")
TRANSPORTS: dict[str, tuple[Transport, ...]] = {
    "websocket": ("websocket",),
    "polling": ("polling",),
    "upgrade": ("polling", "websocket"),
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Server:
    """One of the three."""

    name: str
    process: ServerProcess

    @property
    def url(self) -> str:
        return self.process.url


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SERVERS)
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """Each of the three, for the whole module."""
    log = tmp_path_factory.mktemp("servers") / "server.log"
    if request.param == "node":
        process = ServerProcess(("tests/interop/js/server.js", "{port}"), log, program=require_node())
    else:
        application = "tests.client.other_servers:" + ("ours" if request.param == "waypost" else "theirs")
        options = ("--port", "{port}", "--ws", "websockets-sansio", "--lifespan", "off")
        process = ServerProcess(("-m", "uvicorn", application, *options), log)
    await process.start()
    yield Server(request.param, process)
    await process.kill()


@pytest.fixture(params=list(TRANSPORTS))
def transports(request: pytest.FixtureRequest) -> tuple[Transport, ...]:
    return TRANSPORTS[request.param]


def skip_unless(server: Server, names: tuple[str, ...]) -> None:
    if server.name not in names:
        pytest.skip(f"{server.name} does not have it")


# ---------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize(
    "args", [(), (1,), ("ä", None), ([1, {"a": True}],), (b"\x00\xff",), ({"deep": [b"1", b"2"]}, b"3")]
)
async def test_values_come_back_whole(
    server: Server, transports: tuple[Transport, ...], args: tuple[Any, ...]
) -> None:
    async with waypost.Client(server.url, transports=transports) as client:
        answer = await client.call("echo", *args)
    assert answer == (args[0] if len(args) == 1 else args or None)


async def test_many_events_keep_their_order_over_an_upgrade(
    server: Server, transports: tuple[Transport, ...]
) -> None:
    client = waypost.Client(server.url, transports=transports)
    recorder = Recorder(client, "repeated")
    async with client:
        asked = [asyncio.create_task(client.call("repeat", 50, n)) for n in range(5)]
        await asyncio.sleep(0)
        for n in range(5, 10):
            await client.emit("repeat", 50, n)
        await asyncio.gather(*asked)
        await until(lambda: len(recorder.of("repeated")) == 500, "all events")
        if len(transports) == 2:
            await until(lambda: client.transport == "websocket", "the upgrade")
    by_request = {value: [i for i, v, *_ in recorder.of("repeated") if v == value] for value in range(10)}
    assert by_request == {value: list(range(50)) for value in range(10)}
    assert [value for i, value, *_ in recorder.of("repeated") if i == 0] == list(range(10)) or (
        server.name == "python-socketio"  # which runs handlers of one client beside one another
    )


async def test_nothing_is_lost_or_doubled_while_it_upgrades(server: Server) -> None:
    for _ in range(5):
        async with waypost.Client(server.url, transports=["polling", "websocket"]) as client:
            answers: list[Any] = []
            n = 0
            while client.transport != "websocket" or n < 100:
                answers.append(asyncio.create_task(client.call("echo", n, b"x" * (n % 7))))
                n += 1
                await asyncio.sleep(0)
                if n > 200:
                    # Else a busy server gets ever more of them, and answers none in time.
                    await answers[n - 200]
            assert await asyncio.gather(*answers) == [(i, b"x" * (i % 7)) for i in range(n)]


async def test_heartbeats_keep_it_alive(server: Server, transports: tuple[Transport, ...]) -> None:
    client = waypost.Client(server.url, transports=transports)
    recorder = Recorder(client)
    pings: list[None] = []
    client.io.on("ping", lambda: pings.append(None))
    async with client:
        await until(lambda: len(pings) >= 2, "two heartbeats")
        assert await client.call("echo", "alive") == "alive"
    assert recorder.of("disconnect") == [("io client disconnect",)]


async def test_the_server_asks_and_the_handler_answers(server: Server, transports: tuple[Transport, ...]) -> None:
    client = waypost.Client(server.url, transports=transports)
    client.on("question", lambda *args: args)

    async with client:
        assert await client.call("ask", "question") == []
        assert await client.call("ask", "question", 1) == [1]
        assert await client.call("ask", "question", 1, b"2") == [1, b"2"]


async def test_a_handler_that_raises_rejects(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    client = waypost.Client(server.url)

    @client.event
    async def busy() -> None:
        raise waypost.Reject("no van", retry_in_s=2)

    @client.event
    async def unknown() -> None:
        raise waypost.Reject("no such van", final=True)

    @client.event
    async def broken() -> None:
        raise LookupError("a secret")

    async with client:
        assert await client.call("ask", "busy") == [{"nack": "no van", "retry_in": 2}]
        assert await client.call("ask", "unknown") == [{"nack": "no such van", "final": True}]
        assert await client.call("ask", "broken") == [{"nack": "LookupError"}]


async def test_msgpack(server: Server, transports: tuple[Transport, ...]) -> None:
    skip_unless(server, ("waypost", "node"))
    client = waypost.Client(server.url, transports=transports, path="/msgpack/", parser="msgpack")
    recorder = Recorder(client, "repeated")
    async with client:
        assert await client.call("echo", 1, b"2", {"three": [None]}) == (1, b"2", {"three": [None]})
        await client.call("repeat", 3, b"x")
        await until(lambda: len(recorder.of("repeated")) == 3, "the events")
    assert recorder.of("repeated") == [(i, b"x") for i in range(3)]


# ------------------------------------------------------------------------------------- namespaces, auth, requests


async def test_namespaces_share_a_connection(server: Server, transports: tuple[Transport, ...]) -> None:
    async def credentials() -> dict[str, str]:
        await asyncio.sleep(0)  # as whoever asks for a token
        return {"who": "root"}

    client = waypost.Client(server.url, transports=transports, auth=credentials)
    opened: list[None] = []
    client.io.on("open", lambda: opened.append(None))
    other = client.of("/other", auth={"who": "other"})
    assert client.of("/other") is other
    recorders = Recorder(client, "news"), Recorder(other, "news")
    async with client, other:
        assert client.id != other.id
        assert await client.call("whoami") == {"namespace": "/", "auth": {"who": "root"}}
        assert await other.call("whoami") == {"namespace": "/other", "auth": {"who": "other"}}
        await other.call("shout", "news", [b"other"])
        await until(lambda: bool(recorders[1].of("news")), "the other's news")
        await other.disconnect()
        assert not other.connected
        assert await client.call("echo", 1) == 1
        await other.connect()
        assert await other.call("echo", 2) == 2
    await client.wait_closed()  # `opened` is filled by a thread, which has not run yet when the machine is busy
    assert len(opened) == 1
    assert recorders[0].of("news") == []
    assert recorders[1].of("disconnect") == [("io client disconnect",)] * 2


async def test_a_refused_namespace_does_not_harm_the_others(server: Server) -> None:
    client = waypost.Client(server.url)
    other = client.of("/other", auth={"refuse": 7})
    async with client:
        with pytest.raises(waypost.ConnectFailed, match="not you") as caught:
            await other.connect()
        assert caught.value.data == {"because": 7}
        with pytest.raises(waypost.ConnectFailed):
            await client.of("/nobodys").connect()
        assert not other.active
        assert await client.call("echo", 1) == 1


async def test_the_server_disconnects_one_namespace(server: Server) -> None:
    client = waypost.Client(server.url, reconnection_delay_s=0.01)
    other = client.of("/other")
    recorder = Recorder(other)
    async with client, other:
        await other.emit("leave")
        await until(lambda: bool(recorder.of("disconnect")), "the disconnect")
        assert recorder.of("disconnect") == [("io server disconnect",)]
        assert not other.active
        assert await client.call("echo", 1) == 1


async def test_what_requests_carry(server: Server, transports: tuple[Transport, ...]) -> None:
    client = waypost.Client(
        f"{server.url}/other",
        transports=transports,
        query={"tenant": "7"},
        headers=lambda: {"X-Extra": "e"},
        cookies={"own": "1"},
    )
    async with client:
        assert await client.call("request") == {"cookie": "own=1", "tenant": "7", "extra": "e"}
        if "websocket" in transports:
            await until(lambda: client.transport == "websocket", "the WebSocket")
    async with client:  # the server's cookie of the first time comes along
        cookie = (await client.call("request"))["cookie"]
    assert "own=1" in cookie
    if transports[0] == "polling":
        assert "sticky=" in cookie


@pytest.mark.parametrize("path", ["/polling/", "/websocket/"])
async def test_another_transport_is_tried(server: Server, path: str) -> None:
    for transports in (("websocket", "polling"), ("polling", "websocket")):
        async with waypost.Client(server.url, path=path, transports=transports) as client:
            assert await client.call("echo", path) == path
            assert f"/{client.transport}/" == path
        if f"/{transports[0]}/" != path:
            client = waypost.Client(server.url, path=path, transports=transports, try_all_transports=False)
            with pytest.raises(waypost.ConnectFailed):
                await client.connect()


async def test_without_another_transport_it_says_why(server: Server) -> None:
    client = waypost.Client(server.url, path="/websocket/", transports=["polling"])
    with pytest.raises(waypost.ConnectFailed, match="HTTP 400") as caught:
        await client.connect()
    assert caught.value.status == 400


# ---------------------------------------------------------------------------------------------- lost connections


async def test_it_comes_back_and_sends_what_waited(server: Server, transports: tuple[Transport, ...]) -> None:
    async with Link.to(server.process.port) as link:
        client = waypost.Client(link.url, transports=transports, reconnection_delay_s=0.02)
        recorder = Recorder(client, "repeated")
        reconnected: list[int] = []
        client.io.on("reconnect", reconnected.append)
        async with client:
            link.cut()
            await until(lambda: not client.connected, "the cut")
            await client.emit("repeat", 2, "waited")
            assert await client.call("echo", b"too") == b"too"
            await until(lambda: len(recorder.of("repeated")) == 2, "what waited")
        await client.wait_closed()
        assert reconnected == [1]
        assert recorder.of("disconnect")[0][0] in ("transport close", "transport error")
        assert recorder.details[0].description


async def test_recovery_brings_what_was_missed_once(server: Server, transports: tuple[Transport, ...]) -> None:
    skip_unless(server, RECOVERING)
    async with Link.to(server.process.port) as link, waypost.Client(server.url) as witness:
        client = waypost.Client(link.url, transports=transports, reconnection_delay_s=0.05)
        recorder = Recorder(client, "news")
        expected: list[Any] = [("first",)]
        async with client:
            await witness.call("shout", "news", ["first"])
            await until(lambda: bool(recorder.of("news")), "the first news")
            for n in range(3):
                sid = client.id
                link.cut()
                await until(lambda: not client.connected, "the cut")
                await witness.call("shout", "news", [n, b"missed"])
                await until(lambda: client.connected, "the connection")
                if client.recovered:
                    assert client.id == sid
                    expected.append((n, b"missed"))
                else:
                    # Node's server forgets who comes back before it has noticed; over polling it notices at once
                    # only while a poll waits.
                    assert (server.name, transports[0]) == ("node", "polling"), f"after cut {n}"
                expected.append((n, "live"))
                await witness.call("shout", "news", [n, "live"])
                await until(lambda: recorder.of("news")[-1:] == [(n, "live")], "the news")  # noqa: B023  # at once
    assert recorder.of("news") == expected
    assert any(what == b"missed" for *_, what in expected)


async def test_each_namespace_recovers_for_itself(server: Server) -> None:
    skip_unless(server, RECOVERING)
    async with Link.to(server.process.port) as link, waypost.Client(server.url) as witness:
        client = waypost.Client(link.url, reconnection_delay_s=0.05)
        clients = (client, client.of("/other"))
        recorders = [Recorder(one, "news") for one in clients]
        async with client, clients[1], witness.of("/other") as other_witness:
            for phase in range(2):
                await witness.call("shout", "news", ["root", phase])
                await other_witness.call("shout", "news", ["other", phase])
                if phase == 0:
                    await until(lambda: all(recorder.of("news") for recorder in recorders), "the first news")
                    link.cut()
                    await until(lambda: not any(one.connected for one in clients), "the cut")
            await until(lambda: all(len(recorder.of("news")) == 2 for recorder in recorders), "the second news")
            assert [one.recovered for one in clients] == [True, True]
    assert [recorder.of("news") for recorder in recorders] == [
        [("root", 0), ("root", 1)],
        [("other", 0), ("other", 1)],
    ]


async def test_a_volatile_events_last_text_is_not_taken_for_an_offset(server: Server) -> None:
    skip_unless(server, RECOVERING)
    async with Link.to(server.process.port) as link, waypost.Client(server.url) as witness:
        client = waypost.Client(link.url, reconnection_delay_s=0.05)
        recorder = Recorder(client, "news", "light")
        async with client:
            await witness.call("shout", "news", ["first"])
            await until(lambda: bool(recorder.of("news")), "the first news")
            await client.emit("whisper", "light", ["text", "hello"])
            await until(lambda: bool(recorder.of("light")), "the volatile event")
            link.cut()
            await until(lambda: not client.connected, "the cut")
            await witness.call("shout", "news", ["missed"])
            await until(lambda: len(recorder.of("news")) == 2, "the news")
            assert client.recovered
    assert recorder.of("light") == [("text", "hello")]


async def test_no_recovery_is_said(server: Server) -> None:
    skip_unless(server, ("python-socketio",))
    async with Link.to(server.process.port) as link, waypost.Client(link.url, reconnection_delay_s=0.02) as client:
        link.cut()
        await until(lambda: not client.connected, "the cut")
        assert await client.call("echo", 1) == 1
        assert not client.recovered


# ------------------------------------------------------------------------------------------------- durable outbox


async def test_an_outbox_arrives_in_order_and_at_least_once(
    server: Server, transports: tuple[Transport, ...], tmp_path: Path
) -> None:
    news: list[int] = []
    async with Link.to(server.process.port) as link, waypost.Client(server.url) as witness:
        witness.on("news", news.append)
        client = waypost.Client(
            link.url, transports=transports, outbox=tmp_path / "client.db", reconnection_delay_s=0.02
        )
        await client.emit("shout", "news", [0])  # with no connection yet
        async with client:
            for n in range(1, 4):
                await client.outbox.drained()
                await until(lambda: client.transport == transports[-1], "the upgrade")
                link.hold(rb"43\d*\[")  # so that acknowledgements are lost
                # At the same time, so that they would be sent together.
                await asyncio.gather(*(client.emit("shout", "news", [one]) for one in (n, -n)))
                await until(lambda: n in news, "the event")  # noqa: B023  # at once
                link.cut()
            await client.outbox.drained()
        await until(lambda: news[-1:] == [-3], "the last event")
    # Only Waypost can tell that it has handled an event before. So others get the next one only after an answer.
    assert news == ([0, 1, -1, 2, -2, 3, -3] if server.name == "waypost" else [0, 1, 1, -1, 2, 2, -2, 3, 3, -3])


async def test_what_is_never_acknowledged_leaves_the_outbox_by_the_hook(server: Server, tmp_path: Path) -> None:
    given_up: list[Any] = []
    client = waypost.Client(
        server.url,
        outbox=tmp_path / "client.db",
        outbox_retries=1,
        ack_timeout_s=0.1,
        on_undelivered=lambda *undelivered: given_up.append(undelivered),
    )
    recorder = Recorder(client, "repeated")
    async with client:
        await client.emit("nobody's", 1)
        await client.emit("repeat", 1, "next")
        await client.outbox.drained()
        await until(lambda: bool(recorder.of("repeated")), "the next event")
    event, args, error = given_up[0]
    assert (event, args) == ("nobody's", (1,))
    assert isinstance(error, waypost.EventRefused if server.name == "waypost" else waypost.AckTimeout)
