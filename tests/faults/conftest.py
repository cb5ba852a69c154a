"""A server under attack, and others on it to whom nothing may happen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.interop.peer import MODES, Peer
from tests.interop.publishing import ROOM, check, more, publishing
from tests.support.server_process import ServerProcess

_NOT_COUNTED = (
    # A test asks whether a polling session is gone by one more poll, which is refused in a line of its own.
    "UNKNOWN_SID",
    # Said once for a name, and for 100 names at most, whoever sends them.
    "which has no handler",
    # Said of the lines of earlier tests.
    "lines, which clients caused within",
)
"""What stands in lines that are not of the connection that misbehaves."""


@dataclass
class Case:
    """The server under attack.

    Attributes:
        port: Where it listens.
        server: The process, to be looked into.
        lines_allowed: How many lines it may log in this test: one for each connection that misbehaves.
    """

    port: int
    server: ServerProcess
    lines_allowed: int = 1


@pytest.fixture(params=["polling", "websocket"])
def transport(request: pytest.FixtureRequest) -> str:
    """The transport that the attack comes over."""
    return str(request.param)


@pytest_asyncio.fixture(loop_scope="module")
async def case(peer: Peer, server: ServerProcess) -> AsyncIterator[Case]:
    """Run the attack while others publish and listen; at its end they must have lost nothing.

    The others use official clients over both transports.
    """
    listeners = [
        await peer.client(server.url, transports=MODES[mode], auth={"rooms": [ROOM]})
        for mode in ("polling", "websocket")
    ]
    speaker = await peer.client(server.url, transports=MODES["websocket"])
    for client in (*listeners, speaker):
        await client.connected()
    position = server.log_position()
    case = Case(server.port, server)
    try:
        async with publishing(speaker) as publishers:
            yield case
            for listener in listeners:
                await more(listener, 2)
        await check(publishers, *listeners)
        assert [client.disconnects for client in (*listeners, speaker)] == [[], [], []]
    finally:
        await peer.leave_all()
    server.check_log()
    lines = [line for line in server.log_since(position) if not any(told in line for told in _NOT_COUNTED)]
    assert len(lines) <= case.lines_allowed, "\n".join(lines)
    assert server.alive()
