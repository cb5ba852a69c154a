"""Eight clients behind a proxy that is reloaded and killed, before a server that is stopped and killed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

import waypost
from tests.interop.peer import MODES, Client, Peer
from tests.interop.publishing import ROOM, Publisher, check, more, publishing
from tests.proxies.proxy import Certificate, Proxy
from tests.support.server_process import ServerProcess
from tests.support.waiting import until

pytestmark = [
    pytest.mark.long,
    pytest.mark.node,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

_GETS_S = 60.0


class Ours:
    """A `waypost.Client` that listens, and what it has heard.

    Attributes:
        heard: The name and the number of each event.
    """

    def __init__(self, client: waypost.Client) -> None:
        self.heard: list[tuple[str, int]] = []
        client.on("news", self._hear)

    def _hear(self, name: str, number: int) -> None:
        self.heard.append((name, number))

    async def check(self, publishers: Sequence[Publisher], order: Sequence[tuple[str, int]]) -> None:
        """Fail unless it hears the last of each publisher, and has then heard the same as the others."""
        for publisher in publishers:
            last = (publisher.name, publisher.attempted - 1)
            await until(lambda last=last: last in self.heard, f"{last} of {self.heard[-5:]}", _GETS_S)  # type: ignore[misc]
        assert self.heard == list(order)


@asynccontextmanager
async def ours(proxy: Proxy, certificate: Certificate) -> AsyncIterator[list[Ours]]:
    """Have Waypost's own clients listen, one on each transport."""
    async with AsyncExitStack() as stack:
        listeners = []
        for transport in ("websocket", "polling"):
            client = waypost.Client(
                proxy.url,
                auth={"rooms": [ROOM]},
                transports=[transport],
                ssl=certificate.context() if proxy.url.startswith("https") else None,
                reconnection_delay_s=0.02,
                reconnection_delay_max_s=0.15,
            )
            listeners.append(Ours(client))
            await stack.enter_async_context(client)
        yield listeners


async def official(peer: Peer, proxy: Proxy, certificate: Certificate, rooms: Sequence[str]) -> list[Client]:
    """Connect an official client in each mode."""
    clients = [
        await peer.client(
            proxy.url, transports=transports, auth={"rooms": list(rooms)}, ca=certificate.certificate.read_text()
        )
        for transports in MODES.values()
    ]
    for client in clients:
        await client.connected()
    return clients


async def test_nothing_is_lost_or_doubled(
    peer: Peer, site: ServerProcess, proxy: Proxy, certificate: Certificate, rng: random.Random
) -> None:
    async def kill() -> None:
        await site.restart("kill")

    async def stop() -> None:
        await site.restart("stop")

    disturbances: list[Callable[[], Awaitable[None]]] = [proxy.reload, proxy.restart, kill, stop]
    rng.shuffle(disturbances)
    listeners = await official(peer, proxy, certificate, [ROOM])
    speakers = await official(peer, proxy, certificate, [])
    async with ours(proxy, certificate) as clients:
        async with publishing(*speakers) as publishers:
            for disturb in disturbances:
                for listener in listeners:
                    await more(listener, rng.randrange(5, 40))
                await disturb()
                for listener in listeners:
                    await more(listener, 1)
        await check(publishers, *listeners)
        order = [(name, number) for name, number in listeners[0].args_of("news")]
        for client in clients:
            await client.check(publishers, order)
    await peer.leave_all()
