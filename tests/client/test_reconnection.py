"""Lost connections: what comes back, what is sent late, and when the client stays away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import waypost
from tests.client.serving import Recorder, accepts, closes, playing, says, serving
from tests.support.link import Link
from tests.support.server_process import free_port
from tests.support.waiting import DEADLINE_S, until


def patient(url: str, **options: Any) -> waypost.Client:
    """A client that reconnects at once."""
    return waypost.Client(url, **{"reconnection_delay_s": 0.02, **options})


async def test_nothing_is_missed_over_many_cuts(io: waypost.Server, link: Link) -> None:
    client = patient(link.url)
    recorder = Recorder(client, "n")
    async with client:
        sid = client.id
        for n in range(100):
            await io.emit("n", n)
            if n % 20 == 19:
                link.cut()
                await until(lambda: not client.connected, "the cut")
                await io.emit("n", f"missed after {n}")
                await until(lambda: client.connected, "the connection")
                assert client.recovered
                assert client.id == sid
        await until(lambda: len(recorder.of("n")) == 105, "all events")
    await client.wait_closed()
    expected: list[Any] = []
    for n in range(100):
        expected += [n, f"missed after {n}"] if n % 20 == 19 else [n]
    assert [value for (value,) in recorder.of("n")] == expected
    assert recorder.of("disconnect") == [("transport close",)] * 5 + [("io client disconnect",)]
    assert len(recorder.of("connect")) == 6


async def test_a_client_that_saw_nothing_yet_recovers_too(io: waypost.Server, link: Link) -> None:
    client = patient(link.url)
    recorder = Recorder(client, "n")
    async with client:
        link.cut()
        await until(lambda: not client.connected, "the cut")
        await io.emit("n", b"first")
        await until(lambda: recorder.of("n") == [(b"first",)], "the missed event")
        assert client.recovered


async def test_what_is_emitted_meanwhile_is_sent_in_order(io: waypost.Server, link: Link) -> None:
    arrived: list[Any] = []

    @io.event
    async def note(socket: waypost.Socket, *args: Any) -> None:
        arrived.append(args)

    client = patient(link.url)
    await client.emit("note", "before the first connection")
    async with client:
        await client.call("echo")
        link.cut()
        await until(lambda: not client.connected, "the cut")
        for n in range(20):
            await client.emit("note", n, b"%d" % n)
        assert await client.call("echo", "called offline") == "called offline"
        await client.emit("note", "at last")
    await until(lambda: len(arrived) == 22, "all notes")
    expected = [(n, b"%d" % n) for n in range(20)]
    assert arrived == [("before the first connection",), *expected, ("at last",)]


async def test_the_buffer_has_an_end(url: str) -> None:
    client = waypost.Client(url, max_buffered_events=2, max_buffered_bytes=1000)
    await client.emit("echo", 1)
    with pytest.raises(waypost.NotConnected):
        await client.emit("echo", "x" * 1000)
    await client.emit("echo", 2)
    with pytest.raises(waypost.NotConnected, match="2 events"):
        await client.emit("echo", 3)
    with pytest.raises(waypost.NotConnected):
        await client.call("echo", 3)
    async with client:
        assert await client.call("echo", 4) == 4


async def test_a_single_large_event_fits_an_empty_buffer(url: str) -> None:
    client = waypost.Client(url, max_buffered_bytes=10)
    await client.emit("echo", "x" * 1000)
    async with client:
        assert await client.call("echo", "y" * 1000) == "y" * 1000


async def test_a_connected_client_waits_for_room(io: waypost.Server, url: str) -> None:
    arrived: list[int] = []

    @io.event
    async def note(socket: waypost.Socket, n: int, padding: str) -> None:
        arrived.append(n)

    async with waypost.Client(url, max_buffered_events=1) as client:
        for n in range(100):
            await client.emit("note", n, "x" * 10_000)
    await until(lambda: len(arrived) == 100, "all notes")
    assert arrived == list(range(100))


async def test_whoever_waits_for_room_hears_of_the_cut(link: Link) -> None:
    client = patient(link.url, max_buffered_events=1, reconnection_delay_s=5)
    async with client:
        link.freeze()
        emits = [asyncio.create_task(client.emit("note", "x" * 900_000)) for _ in range(20)]
        await asyncio.sleep(0.05)
        link.cut()
        outcomes = await asyncio.gather(*emits, return_exceptions=True)
    assert any(isinstance(outcome, waypost.NotConnected) for outcome in outcomes)
    assert all(outcome is None or isinstance(outcome, waypost.NotConnected) for outcome in outcomes)


async def test_a_call_that_was_sent_fails_with_its_connection(io: waypost.Server, link: Link) -> None:
    @io.on("endless", concurrent=True)
    async def endless(socket: waypost.Socket) -> None:
        await asyncio.Event().wait()

    async with patient(link.url) as client:
        call = asyncio.create_task(client.call("endless"))
        await client.call("echo")
        link.cut()
        with pytest.raises(waypost.NotConnected):
            await call


async def test_a_call_that_was_not_sent_in_time_never_is(io: waypost.Server, link: Link) -> None:
    arrived: list[str] = []

    @io.event
    async def note(socket: waypost.Socket, text: str) -> None:
        arrived.append(text)

    async with patient(link.url, reconnection_delay_s=0.3, reconnection_jitter=0) as client:
        link.cut()
        await until(lambda: not client.connected, "the cut")
        await client.emit("note", "before")
        with pytest.raises(waypost.AckTimeout):
            await client.call("note", "too late", timeout_s=0.02)
        await client.emit("note", "after")
        await until(lambda: len(arrived) == 2, "the notes")
    assert arrived == ["before", "after"]


async def test_a_handlers_answer_is_for_the_session_that_asked(io: waypost.Server) -> None:
    port = free_port()
    may_answer = asyncio.Event()
    client = patient(f"http://127.0.0.1:{port}")
    recorder = Recorder(client)

    @client.event
    async def question() -> str:
        await may_answer.wait()
        return "stale"

    async with serving(io, port):
        await client.connect()
        await client.emit("ask", "question")
        await client.call("echo")
    second = waypost.Server(drain_s=0)

    @second.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        answers.append(asyncio.create_task(socket.call("other", timeout_s=0.2)))

    answers: list[asyncio.Task[Any]] = []
    async with serving(second, port):
        await until(lambda: client.connected, "the second server")
        assert client.recovered is False
        may_answer.set()
        outcome = (await asyncio.gather(*answers, return_exceptions=True))[0]
        assert isinstance(outcome, waypost.AckTimeout)
        await client.disconnect()
    assert len(recorder.of("connect")) == 2


async def test_a_question_that_is_asked_again_is_handled_once(io: waypost.Server, link: Link) -> None:
    client = patient(link.url)
    runs: list[int] = []
    may_answer = asyncio.Event()

    @client.event
    async def question(n: int) -> int:
        runs.append(n)
        await may_answer.wait()
        return n

    answers: list[Any] = []

    @io.event
    async def collect(socket: waypost.Socket) -> None:
        tasks = [asyncio.create_task(socket.call("question", n, timeout_s=5)) for n in range(3)]
        answers.extend(await asyncio.gather(*tasks))

    async with client:
        await client.emit("collect")
        await until(lambda: runs == [0], "the first question")
        link.cut()
        await until(lambda: not client.connected, "the cut")
        await until(lambda: client.connected, "the connection")
        assert client.recovered
        may_answer.set()
        await until(lambda: answers == [0, 1, 2], "the answers")
    assert runs == [0, 1, 2]


async def test_a_lost_answer_is_given_again() -> None:
    received: list[str | bytes] = []

    async def hangs_up(connection: ServerConnection) -> None:
        received.append(await connection.recv())
        await connection.close()

    async def listens(connection: ServerConnection) -> None:
        received.append(await connection.recv())
        await connection.wait_closed()

    first, again = (
        accepts('427["question"]', pid="p", then=hangs_up),
        accepts('427["question"]', pid="p", then=listens),
    )
    async with playing(first, again) as url:
        client = patient(url)
        runs: list[int] = []
        client.on("question", lambda: runs.append(1))
        async with client:
            await until(lambda: len(received) == 2, "both answers")
    assert received == ["437[]", "437[]"]
    assert runs == [1]


async def test_a_restarted_server_without_its_store_begins_anew() -> None:
    port = free_port()
    client = patient(f"http://127.0.0.1:{port}")
    recorder = Recorder(client, "n")
    first, second = waypost.Server(drain_s=0), waypost.Server(drain_s=0)
    async with serving(first, port):
        await client.connect()
        await first.emit("n", 1)
        await until(lambda: bool(recorder.of("n")), "the event")
    await until(lambda: not client.connected, "the end of the server")
    async with serving(second, port):
        await until(lambda: client.connected, "the connection")
        assert client.recovered is False
        await second.emit("n", 2)
        await until(lambda: len(recorder.of("n")) == 2, "the event")
        await client.disconnect()
    assert recorder.of("connect_error")


async def test_a_restarted_server_with_its_store_goes_on(tmp_path: Any) -> None:
    port = free_port()
    client = patient(f"http://127.0.0.1:{port}")
    recorder = Recorder(client, "n")
    store = str(tmp_path / "events.db")
    first, second = waypost.Server(store=store, drain_s=0), waypost.Server(store=store, drain_s=0)
    async with serving(first, port):
        await client.connect()
        sid = client.id
        await first.emit("n", 1)
        await until(lambda: bool(recorder.of("n")), "the event")
    await second.start()
    await second.emit("n", 2)
    async with serving(second, port):
        await until(lambda: client.connected, "the connection")
        assert client.recovered
        assert client.id == sid
        await second.emit("n", 3)
        await until(lambda: len(recorder.of("n")) == 3, "the events")
        await client.disconnect()
    assert recorder.of("n") == [(1,), (2,), (3,)]


async def test_a_silent_connection_is_given_up(link: Link) -> None:
    quick = waypost.Server(ping_interval_s=0.1, ping_timeout_s=0.1, drain_s=0)
    async with serving(quick) as port, Link.to(port) as slow:
        client = patient(slow.url)
        recorder = Recorder(client)
        async with client:
            await asyncio.sleep(0.5)
            assert client.connected
            assert recorder.seen == [("connect",)]
            slow.freeze()
            await until(lambda: ("disconnect", "ping timeout") in recorder.seen, "the timeout")
            await until(lambda: client.connected, "the connection")


async def test_it_stays_away_when_the_server_disconnects(url: str) -> None:
    client = patient(url)
    recorder = Recorder(client)
    await client.connect()
    await client.emit("leave")
    async with asyncio.timeout(DEADLINE_S):
        await client.wait_closed()
    assert recorder.seen == [("connect",), ("disconnect", "io server disconnect")]
    assert not client.connected
    async with client:
        assert client.connected


async def test_it_stays_away_when_told_not_to_reconnect(link: Link) -> None:
    client = patient(link.url, reconnection=False)
    recorder = Recorder(client)
    await client.connect()
    link.cut()
    async with asyncio.timeout(DEADLINE_S):
        await client.wait_closed()
    assert recorder.seen == [("connect",), ("disconnect", "transport close")]


async def test_it_gives_up_after_so_many_attempts() -> None:
    io = waypost.Server(drain_s=0)
    async with serving(io) as port:
        client = patient(f"http://127.0.0.1:{port}", reconnection_attempts=2)
        recorder = Recorder(client)
        await client.connect()
    async with asyncio.timeout(DEADLINE_S):
        await client.wait_closed()
    assert len(recorder.of("connect_error")) == 2
    assert all(isinstance(error, waypost.ConnectFailed) for (error,) in recorder.of("connect_error"))


async def test_leaving_while_reconnecting_ends_that() -> None:
    async with serving(waypost.Server(drain_s=0)) as port:
        client = patient(f"http://127.0.0.1:{port}", reconnection_delay_s=60, reconnection_delay_max_s=100)
        recorder = Recorder(client)
        await client.connect()
    await until(lambda: bool(recorder.of("disconnect")), "the end of the server")
    async with asyncio.timeout(DEADLINE_S):
        await client.disconnect()
        await client.wait_closed()
    assert len(recorder.of("disconnect")) == 1


# ------------------------------------------------------------------------------------------------- auth


async def test_auth_is_asked_for_at_every_attempt(link: Link) -> None:
    tokens = iter(range(10))

    async def auth() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"token": next(tokens)}

    async with patient(link.url, auth=auth) as client:
        assert await client.call("auth") == {"token": 0}
        link.cut()
        await until(lambda: not client.connected, "the cut")
        answer = await client.call("auth")
        assert answer["token"] == 1


@pytest.mark.parametrize("auth", [{"token": 7}, lambda: {"token": 7}])
async def test_auth_may_be_a_value_or_a_function(url: str, auth: Any) -> None:
    async with waypost.Client(url, auth=auth) as client:
        assert await client.call("auth") == {"token": 7}


async def test_a_client_that_is_refused_learns_why(url: str) -> None:
    client = waypost.Client(url, auth={"refuse": [1]})
    with pytest.raises(waypost.ConnectFailed, match="not you") as caught:
        await client.connect()
    assert caught.value.data == {"why": [1]}
    assert not client.connected
    await client.wait_closed()


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_client_that_did_not_get_in_leaves_nothing_open(url: str, is_there: bool, tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    where = url if is_there else "http://127.0.0.1:1"
    for _ in range(2):  # the second one finds the file free
        with pytest.raises(waypost.ConnectFailed, match="not you" if is_there else "Connection refused"):
            async with waypost.Client(where, auth={"refuse": 1}, outbox=tmp_path / "client.db"):
                pass
        # The server looks once who listens beside it.
        left = {task for task in asyncio.all_tasks() if "Succession" not in repr(task.get_coro())}
        assert left == before


async def test_a_client_that_is_refused_later_stays_away(link: Link) -> None:
    credentials: dict[str, Any] = {}
    client = patient(link.url, auth=lambda: credentials)
    recorder = Recorder(client)
    await client.connect()
    credentials["refuse"] = "expired"
    link.cut()
    async with asyncio.timeout(DEADLINE_S):
        await client.wait_closed()
    ((error,),) = recorder.of("connect_error")
    assert (error.problem, error.data) == ("not you", {"why": "expired"})


@pytest.mark.parametrize("result", [5, "token", [1], {"token": {1, 2}}, {"token": b"binary"}])
async def test_auth_that_cannot_be_sent_is_a_failure(url: str, result: Any) -> None:
    with pytest.raises(waypost.ConnectFailed, match="auth"):
        await waypost.Client(url, auth=lambda: result).connect()


async def test_an_auth_function_that_raises_is_asked_again(link: Link) -> None:
    outcomes: list[dict[str, Any] | None] = [{}, None, {}]

    def auth() -> dict[str, Any]:
        outcome = outcomes.pop(0)
        if outcome is None:
            raise LookupError("no token yet")
        return outcome

    client = patient(link.url, auth=auth)
    recorder = Recorder(client)
    async with client:
        link.cut()
        await until(lambda: len(recorder.of("connect")) == 2, "the connection")
    ((error,),) = recorder.of("connect_error")
    assert "LookupError" in str(error)


# ------------------------------------------------------------------------------------------ odd servers


async def test_a_namespace_that_is_not_there(url: str) -> None:
    with pytest.raises(waypost.ConnectFailed, match="Invalid namespace"):
        await waypost.Client(url, namespace="/nowhere").connect()


async def test_a_path_that_is_not_there(url: str) -> None:
    with pytest.raises(waypost.ConnectFailed):
        await waypost.Client(url, path="/elsewhere/").connect()


async def test_a_server_that_is_not_there() -> None:
    with pytest.raises(waypost.ConnectFailed):
        await waypost.Client(f"http://127.0.0.1:{free_port()}").connect()


async def test_events_before_the_answer_to_connect_are_replayed_after_it() -> None:
    early = ('42["n",1,"g.1"]', '451-["n",{"_placeholder":true,"num":0},"g.2"]', b"two", '42["n",2,"g.2"]')
    replay = ('42["n",3,"g.3"]', '40{"sid":"s","pid":"p","waypost":1}', '42["n",4,"g.4"]')
    async with playing(says('40{"sid":"s","pid":"p","waypost":1}', *early, then=closes), says(*replay)) as url:
        client = patient(url)
        recorder = Recorder(client, "n")
        async with client:
            await until(lambda: len(recorder.of("n")) == 5, "all events")
            assert client.recovered
    names = [(entry[0], *entry[1:]) for entry in recorder.seen]
    assert names[:8] == [
        ("connect",), ("n", 1), ("n", b"two"), ("n", 2), ("disconnect", "transport close"),
        ("connect",), ("n", 3), ("n", 4),
    ]  # fmt: skip


async def test_events_that_were_seen_are_dropped() -> None:
    frames = ['42["n",1,"g.1"]', '42["n",2,"g.2"]', '42["n",1,"g.1"]', '42["n",3,"g.3"]', '427["n","asks"]']
    async with playing(accepts(*frames, pid="p")) as url:
        client = patient(url)
        recorder = Recorder(client, "n")
        async with client:
            await until(lambda: len(recorder.of("n")) == 4, "the events")
    assert recorder.of("n") == [(1,), (2,), (3,), ("asks",)]
