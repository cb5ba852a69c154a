"""A carrier on real connections, with the event loop that `waypost serve` runs on."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import uvloop

from tests.support.raw import WAIT_S
from tests.support.waiting import until
from waypost.protocol.websocket import FrameEncoder
from waypost.server.basics.slices import Slices
from waypost.server.basics.traffic import Traffic
from waypost.server.basics.write_turn import WriteTurn
from waypost.transports.frame_carrier import FrameCarrier


class Accepting(asyncio.Protocol):
    """Keeps the transports of those who come."""

    def __init__(self, accepted: list[asyncio.Transport]) -> None:
        self._accepted = accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._accepted.append(cast("asyncio.Transport", transport))


async def lose_one_and_write_to_both() -> bytes:
    """Write to two carriers in the turn in which one of them is lost; return what the client of the other reads."""
    accepted: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(lambda: Accepting(accepted), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    streams = []
    for _ in range(2):
        streams.append(await asyncio.open_connection("127.0.0.1", port))
        await until(lambda: len(accepted) == len(streams), "it is accepted")
    encoder, turn, carriers = FrameEncoder(), WriteTurn(), set[Any]()
    both = [FrameCarrier(transport, 1000, carriers) for transport in accepted]
    for carrier, transport in zip(both, accepted, strict=True):
        carrier.share(encoder, turn, Slices(), Traffic())
        transport.set_protocol(carrier)
    # The loop tells the carrier of it in its next turn, and just then lets both write.
    accepted[0].abort()
    for carrier in both:
        carrier.write(("4hello",))
    try:
        async with asyncio.timeout(WAIT_S):
            return await streams[1][0].readexactly(8)
    finally:
        for _, writer in streams:
            writer.close()
        accepted[1].close()
        server.close()
        await server.wait_closed()


def test_one_that_is_lost_takes_nothing_from_others() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(lose_one_and_write_to_both()) == b"\x81\x064hello"
