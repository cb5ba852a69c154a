"""The blocking client: what the asyncio client does, from plain functions and threads."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, assert_type

import pytest

import waypost
from tests.support.waiting import DEADLINE_S, until
from waypost.errors import AckTimeout, ConfigurationError, ConnectFailed, NotConnected
from waypost.sync import Client
from waypost.testing import ThreadSite


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("waypost-client")]


def test_calls_and_emits(client: Client) -> None:
    assert client.connected
    assert client.active
    assert client.id
    assert client.transport == "websocket"
    assert not client.recovered
    assert client.call("echo", 1, b"\x00", "ä") == (1, b"\x00", "ä")
    assert client.volatile.emit("echo", 1) is True
    client.emit("count to", 3)
    assert repr(client).endswith(" /, connected>")


def test_handlers_are_plain_functions_that_may_use_the_client(client: Client) -> None:
    @client.event
    def sum_of(first: int, second: int) -> Any:
        client.emit("echo", "from a handler")
        return client.call("echo", first + second)

    @client.on("refuse")
    def refuse() -> None:
        raise waypost.Reject("not now", retry_in_s=2)

    assert client.call("ask", "sum_of", 2, 3) == {"answer": 5}
    assert client.call("ask", "refuse") == {"answer": {"nack": "not now", "retry_in": 2}}
    client.off("refuse", refuse)


def test_a_call_returns_the_type_that_was_asked_for_or_raises_the_refusal(client: Client) -> None:
    assert_type(client.call("echo", "7", returns=str), str)
    assert client.call("echo", [1, 2], returns=set[int]) == {1, 2}
    with pytest.raises(waypost.AnswerMismatch):
        client.call("echo", "x", returns=int)
    with pytest.raises(waypost.EventRefused, match="no handler"):
        client.call("nobody")


def test_a_handler_may_leave(site: ThreadSite) -> None:
    client, left = Client(site.url), threading.Event()

    @client.on("number")
    def number(number: int) -> None:
        client.disconnect()
        left.set()

    client.connect()
    client.emit("count to", 1)
    assert left.wait(DEADLINE_S)
    assert not client.connected


def test_handlers_run_in_order_one_at_a_time(client: Client) -> None:
    seen: SimpleQueue[int] = SimpleQueue()
    client.on("number", seen.put)
    client.emit("count to", 200)
    assert [seen.get(timeout=DEADLINE_S) for _ in range(200)] == list(range(1, 201))


def test_loops_over_events(client: Client) -> None:
    with client.events("number") as numbers:
        client.emit("count to", 3)
        seen = []
        for event in numbers:
            seen.append((event.name, event.arg, event.args))
            if event.arg == 3:
                break
        assert seen == [("number", number, (number,)) for number in (1, 2, 3)]
        with pytest.raises(TimeoutError):
            numbers.next(timeout_s=0.01)
        client.emit("count to", 1)
        assert numbers.next(timeout_s=DEADLINE_S).arg == 1
        client.disconnect()
        assert list(numbers) == []


def test_a_loop_acknowledges_or_rejects(client: Client) -> None:
    with client.events("pickup") as pickups, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.call, "ask", "pickup", 7)
        pickups.next().ack("accepted")
        assert asked.result() == {"answer": "accepted"}
        asked = pool.submit(client.call, "ask", "pickup", 8)
        event = pickups.next()
        event.reject("no van", final=True)
        assert repr(event) == "<ReceivedEvent 'pickup' (8,)>"
        assert asked.result() == {"answer": {"nack": "no van", "final": True}}


def test_many_threads_use_one_client(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: client.call("echo", number), range(200)))
    assert answers == list(range(200))


def test_namespaces_share_a_connection_and_a_thread(site: ThreadSite) -> None:
    before = len(threads())
    with Client(site.url) as client, client.of("/admin", auth={"name": "Ada"}) as admin:
        assert admin is client.of("/admin")
        assert client.of("/") is client
        assert admin.namespace == "/admin"
        assert admin.call("whoami") == {"name": "Ada"}
        assert sum(name == "waypost-client" for name in threads()) <= before + 1
    assert not client.connected
    assert not admin.connected


def test_auth_may_be_a_function_that_takes_its_time(site: ThreadSite, client: Client) -> None:
    names: list[str] = []

    def auth() -> dict[str, Any]:
        names.append(threading.current_thread().name)
        return {"token": client.call("echo", "fresh")}

    assert site.connect(auth=auth).call("auth") == {"token": "fresh"}
    assert names[0].startswith("waypost-client-worker")


def test_failures_are_those_of_the_asyncio_client(site: ThreadSite, client: Client) -> None:
    with pytest.raises(ConnectFailed, match="not you"):
        site.connect(auth={"refuse": True})
    with pytest.raises(AckTimeout):
        client.call("say nothing", timeout_s=0.05)
    with pytest.raises(TimeoutError):
        client.wait_closed(timeout_s=0.01)
    with pytest.raises(ConfigurationError, match="text that starts with /"):
        client.of("admin")
    client.disconnect()
    client.wait_closed()
    with pytest.raises(AckTimeout):
        client.call("echo", timeout_s=0.05)
    client.connect()
    assert client.call("echo", 1) == 1


def test_a_call_ends_when_the_client_leaves(client: Client) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.call, "say nothing")
        client.call("echo")
        client.disconnect()
        with pytest.raises(NotConnected):
            call.result(timeout=DEADLINE_S)


def test_who_would_wait_for_himself_is_told(client: Client) -> None:
    problems: SimpleQueue[Exception] = SimpleQueue()

    @client.on("number")
    async def number(number: int) -> None:
        try:
            client.emit("echo")
        except ConfigurationError as error:
            problems.put(error)

    client.emit("count to", 1)
    assert "expected a plain function" in str(problems.get(timeout=DEADLINE_S))


def test_a_client_that_did_not_get_in_leaves_nothing_open(site: ThreadSite, tmp_path: Path) -> None:
    for _ in range(2):  # the second one finds the file free
        with (
            pytest.raises(ConnectFailed, match="not you"),
            Client(site.url, auth={"refuse": True}, outbox=tmp_path / "client.db"),
        ):
            pass


async def test_a_client_that_nobody_holds_ends_with_its_thread(site: ThreadSite) -> None:
    client = Client(site.url)
    client.connect()
    sid, gone = client.id, weakref.ref(client)
    before = len(threads())
    del client
    gc.collect()
    assert gone() is None
    await until(lambda: len(threads()) < before, "its thread has ended")

    def is_known() -> bool:
        sockets = site.run(site.io.fetch_sockets())
        return any(socket.id == sid for socket in sockets)

    await until(lambda: not is_known(), "the server has let it go")


def test_a_client_that_never_connected_has_no_thread(site: ThreadSite) -> None:
    before = threads()
    client = Client(site.url)
    client.on("number", print)
    assert client.id is None
    assert threads() == before
