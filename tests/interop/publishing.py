"""A publisher that goes on whatever happens, and what must be true of those who listen to it.

Every attempt to publish has a number of its own and is made once: a retry after a lost ack would be
another event, and the oracle could not tell it from one that the server doubled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.interop.peer import Client, PeerError, Received

ROOM = "listeners"

# Without it, a quick machine publishes more than one replay brings while a listener waits to reconnect: it is then
# told so, rightly, and starts anew. And what runs beside the tests gets a turn.
_PACE_S = 0.005
_ATTEMPT_S = 5.0


class Publisher:
    """Publishes 0, 1, 2, … to the room through a client, each as soon as the one before is settled.

    Attributes:
        attempted: How many it has sent out.
        accepted: The numbers the server has acknowledged.
    """

    def __init__(self, client: Client) -> None:
        self.name = client.name
        self.attempted = 0
        self.accepted: list[int] = []
        self._client = client
        self._stopping = False

    async def publish(self) -> bool:
        """Make one attempt and tell whether it was acknowledged."""
        number = self.attempted
        self.attempted += 1
        try:
            await self._client.call("publish", ROOM, self.name, number, timeout_s=_ATTEMPT_S)
        except PeerError:
            return False
        self.accepted.append(number)
        return True

    async def run(self) -> None:
        """Publish until `stop`; the last event it publishes then is its end."""
        while not self._stopping:
            await self.publish()
            await asyncio.sleep(_PACE_S)
        while not await self.publish():
            pass

    def stop(self) -> None:
        """Publish once more and then no more."""
        self._stopping = True


@asynccontextmanager
async def publishing(*clients: Client) -> AsyncIterator[list[Publisher]]:
    """Have each client publish while the block runs."""
    publishers = [Publisher(client) for client in clients]
    async with asyncio.TaskGroup() as group:
        for publisher in publishers:
            group.create_task(publisher.run())
        try:
            yield publishers
        finally:
            for publisher in publishers:
                publisher.stop()


async def more(client: Client, count: int) -> None:
    """Wait until a listener has got so many more events than now."""
    await client.gets("news", len(client.received["news"]) + count)


async def check(publishers: Sequence[Publisher], *listeners: Client) -> None:
    """Fail unless every listener recovered each time, and got everything exactly once, in the one order."""
    for listener in listeners:
        for publisher in publishers:
            await listener.hears("news", publisher.name, publisher.attempted - 1)
        assert all(state.recovered for state in listener.connects[1:]), listener.connects
        check_listener(listener.received["news"], publishers)
    orders = [listener.args_of("news") for listener in listeners]
    assert all(order == orders[0] for order in orders)


def check_listener(heard: Sequence[Received], publishers: Sequence[Publisher]) -> None:
    """Fail unless one listener got what was accepted, nothing twice, each publisher's in its order."""
    offsets = [event.offset for event in heard]
    assert None not in offsets
    assert len(set(offsets)) == len(offsets), "an offset was delivered twice"
    for publisher in publishers:
        numbers = [event.args[1] for event in heard if event.args[0] == publisher.name]
        assert numbers == sorted(set(numbers)), "out of order, or twice"
        lost = set(publisher.accepted) - set(numbers)
        assert not lost, f"accepted, but not delivered: {sorted(lost)[:20]}"
        assert set(numbers) <= set(range(publisher.attempted))
