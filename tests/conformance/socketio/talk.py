"""What the tests of Socket.IO say and hear over a raw connection."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.conformance.site import Site, connected
from tests.support.raw import OPENERS, Raw

PLACEHOLDER = '{"_placeholder":true,"num":0}'


@asynccontextmanager
async def joined(site: Site, transport: str, namespace: str = "") -> AsyncIterator[tuple[Raw, str]]:
    """Open a connection and connect to a namespace; gives the connection and the socket's id."""
    async with OPENERS[transport](site.port) as raw:
        yield raw, await connected(raw, namespace)


async def still_works(raw: Raw, namespace: str = "") -> None:
    """Check that a namespace's socket answers, and that nothing else came before."""
    await raw.send(f'42{namespace}99["echo","works"]')
    assert await raw.receive() == f'43{namespace}99["works"]'


async def refusal(raw: Raw, namespace: str = "") -> Any:
    """Receive a CONNECT_ERROR and return its payload."""
    packet = await raw.receive()
    assert isinstance(packet, str)
    assert packet.startswith(f"44{namespace}")
    return json.loads(packet.removeprefix(f"44{namespace}"))
