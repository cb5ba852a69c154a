"""python-socketio's AsyncClient, over each transport; recovery is on, as by default, and does not disturb it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from socketio import AsyncClient, exceptions  # type: ignore[import-untyped]  # it has no types

import waypost
from tests.conformance.site import Site, asgi, open_site
from tests.interop.peer import MODES
from tests.support.link import Link
from tests.support.waiting import until, until_async

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # It leaves a WebSocket to the garbage collector.
    pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning"),
]

ARGUMENTS: list[Any] = [1, "naïve ☃ 🜁", {"a": [b"\x00\xff", {"b": b""}]}, None, True, 2.5]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    """A server with recovery, and short heartbeats."""
    async with open_site(asgi, recovery=waypost.Recovery(), ping_interval_s=0.2, ping_timeout_s=5) as site:
        yield site


class Heard:
    """A client, connected, and what it has heard."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        waits = {"reconnection_delay": 0.02, "reconnection_delay_max": 0.05}
        self.client = AsyncClient(http_session=session, reconnection=False, **waits)
        self.events: list[tuple[str, tuple[Any, ...]]] = []
        self.reasons: list[str] = []
        self.client.on("disconnect", self._disconnect)

    async def connect(self, site: Site | Link, mode: str, *namespaces: str, auth: Any = None) -> Heard:
        """Connect to these namespaces, or to the main one."""
        url = site.url if isinstance(site, Link) else f"http://127.0.0.1:{site.port}"
        for namespace in namespaces or ("/",):
            self.client.on("*", self._event, namespace=namespace)
        await self.client.connect(
            url,
            transports=list(MODES[mode]),
            namespaces=list(namespaces or ("/",)),
            auth=auth,
            wait_timeout=10,
        )
        return self

    async def hears(self, event: str, *arguments: Any) -> None:
        """Wait for an event with exactly these arguments."""
        await until(lambda: (event, arguments) in self.events, f"{event}{arguments}; came: {self.events}")

    async def _event(self, event: str, *arguments: Any) -> Any:
        self.events.append((event, arguments))
        return arguments

    async def _disconnect(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest_asyncio.fixture(loop_scope="module")
async def heard() -> AsyncIterator[Heard]:
    """A client, not yet connected."""
    async with aiohttp.ClientSession() as session:
        heard = Heard(session)
        yield heard
        await heard.client.disconnect()
    gc.collect()


async def test_events_acks_and_binary_both_ways(site: Site, heard: Heard, mode: str) -> None:
    client = (await heard.connect(site, mode)).client
    assert client.transport() == ("polling" if mode == "polling" else "websocket")
    assert list(await client.call("echo", tuple(ARGUMENTS), timeout=10)) == ARGUMENTS
    await client.emit("say", tuple(ARGUMENTS))
    await heard.hears("said", *ARGUMENTS)
    socket = site.sockets[str(client.get_sid())]
    assert list(await socket.call("question", b"why", {"x": 1})) == [b"why", {"x": 1}]


async def test_many_events_at_once(site: Site, heard: Heard, mode: str) -> None:
    await heard.connect(site, mode)
    for number in range(50):
        await heard.client.emit("say", number)
    await heard.hears("said", 49)
    assert heard.events == [("said", (number,)) for number in range(50)]


async def test_the_heartbeat_keeps_the_connection(site: Site, heard: Heard, mode: str) -> None:
    await heard.connect(site, mode)
    await asyncio.sleep(0.7)
    assert await heard.client.call("echo", "alive", timeout=10) == "alive"
    assert heard.reasons == []


async def test_namespaces_and_rooms(site: Site, heard: Heard) -> None:
    await heard.connect(site, "websocket", "/", "/other")
    main, other = (str(heard.client.get_sid(namespace)) for namespace in ("/", "/other"))
    assert main != other
    assert await heard.client.call("echo", 1, namespace="/other", timeout=10) == 1
    await site.sockets[main].join("room")
    await site.io.to("room").emit("news", "for the room", b"1")
    await heard.hears("news", "for the room", b"1")
    await site.io.of("/other").emit("news", "for the others")
    await heard.hears("news", "for the others")


async def test_a_refusal(site: Site, heard: Heard) -> None:
    refusals: list[Any] = []

    async def refused(data: Any) -> None:
        refusals.append(data)

    heard.client.on("connect_error", refused)
    with pytest.raises(exceptions.ConnectionError):
        await heard.connect(site, "websocket", auth={"refuse": {"because": "x"}})
    assert refusals == [{"message": "not you", "data": {"because": "x"}}]


async def test_the_server_disconnects(site: Site, heard: Heard, mode: str) -> None:
    sid = str((await heard.connect(site, mode)).client.get_sid())
    await site.sockets[sid].disconnect()
    await until(lambda: heard.reasons == ["server disconnect"], f"the disconnect; {heard.reasons}")
    assert await site.reason(sid) == "server namespace disconnect"


async def test_the_client_disconnects(site: Site, heard: Heard, mode: str) -> None:
    sid = str((await heard.connect(site, mode)).client.get_sid())
    await heard.client.disconnect()
    assert heard.reasons == ["client disconnect"]
    # Over a WebSocket it may close before it has written its goodbye.
    assert await site.reason(sid) in ("client namespace disconnect", "transport close")


async def test_it_comes_back_as_a_new_client_after_a_cut(site: Site, heard: Heard, mode: str) -> None:
    heard.client.reconnection = True
    async with Link.to(site.port) as link:
        client = (await heard.connect(link, mode)).client
        first = str(client.get_sid())
        await client.emit("say", "before the cut")
        await heard.hears("said", "before the cut")
        link.cut()
        await until(lambda: client.connected and str(client.get_sid()) != first, "the next connection")
        assert await client.call("echo", "after the cut", timeout=10) == "after the cut"
        assert await site.sockets[str(client.get_sid())].call("question", "still there?") == "still there?"
        await client.disconnect()
    assert heard.events[0] == ("said", ("before the cut",))


async def test_a_queues_messages_are_acknowledged_by_returning_and_come_again_after_a_cut(
    site: Site, heard: Heard, mode: str
) -> None:
    attempts: list[int] = []
    jobs = site.io.queue(f"jobs of {mode}")

    async def job(number: int) -> Any:
        attempts.append(number)
        if attempts == [1]:
            link.cut()
            await asyncio.sleep(0)
        return {"nack": "not now", "retry_in": 0} if attempts == [1, 1, 2] else None

    async def consume() -> None:
        await site.sockets[str(client.get_sid())].consume(f"jobs of {mode}", order="strict")

    client = heard.client
    client.reconnection = True
    client.on("job", job)
    async with Link.to(site.port) as link:
        await heard.connect(link, mode)
        await consume()
        first = client.get_sid()
        for number in (1, 2, 3):
            await jobs.emit("job", number)
        await until(lambda: client.connected and client.get_sid() not in (None, first), "the next connection")
        await consume()
        await until(lambda: attempts[-1:] == [3], "the last message")

        async def has_settled() -> bool:
            (info,) = await jobs.consumers()
            return info.waiting == 0

        await until_async(has_settled, bool, "all acknowledgements")
        await client.disconnect()
    assert attempts == [1, 1, 2, 2, 3]
