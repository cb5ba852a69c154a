"""What these tests do with official clients again and again."""

from __future__ import annotations

from typing import Any

from tests.interop.peer import MODES, Client, Peer
from tests.interop.publishing import ROOM
from tests.support.server_process import ServerProcess
from tests.support.waiting import DEADLINE_S, until_async


class Clients:
    """Official clients of one server.

    Attributes:
        server: The server.
    """

    def __init__(self, peer: Peer, server: ServerProcess) -> None:
        self.server = server
        self._peer = peer

    async def connect(self, mode: str = "websocket", **options: Any) -> Client:
        """Make a client that is connected; keywords as in `Peer.client`."""
        options.setdefault("url", self.server.url)
        client = await self._peer.client(transports=MODES[mode], **options)
        await client.connected()
        return client

    async def listen(self, mode: str = "websocket", *, auth: Any = None, **options: Any) -> Client:
        """Make a client that is in the room."""
        return await self.connect(mode, auth={"rooms": [ROOM], **(auth or {})}, **options)

    async def control(self) -> Client:
        """Make a client that looks into the server."""
        return await self.connect(namespace="/control")


async def publish(client: Client, first: int, last: int) -> None:
    """Publish numbers to the room, each accepted before the next."""
    for number in range(first, last):
        await client.call("publish", ROOM, number)


def numbers(client: Client) -> list[Any]:
    """Return the first argument of each of the client's news."""
    return [args[0] for args in client.args_of("news")]


async def come_back(client: Client, *, recovered: bool = True, auth: Any = None) -> None:
    """Reconnect after `Client.away`; a recovery brings back the same ids, a new session new ones."""
    times = len(client.connects)
    await client.resume(auth)
    await came_back(client, times + 1, recovered=recovered)


async def came_back(client: Client, times: int, *, recovered: bool = True) -> None:
    """Wait for the client's so many-th connect; a recovery brings back the same ids, a new session new ones."""
    before, after = client.connects[times - 2], await client.connected(times)
    assert after.recovered is recovered, f"recovered is {after.recovered}; {client.summary()}"
    assert (after.id == before.id) is recovered
    assert (after.pid == before.pid) is recovered


async def reason(client: Client) -> Any:
    """Return why the client's last recovery failed, as its socket on the server has it."""
    [outcome] = await client.call("outcome")
    return outcome["reason"]


async def state(control: Client) -> Any:
    """Return all that the server counts."""
    [found] = await control.call("state")
    return found


async def held(control: Client, gate: str, times: int = 1) -> None:
    """Wait until a recovery has come to a gate."""

    async def count() -> int:
        [found] = await control.call("held", gate)
        return int(found)

    await until_async(count, lambda found: found >= times, f"{times} at gate {gate}", DEADLINE_S)
