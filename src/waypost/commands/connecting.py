"""A client for the time of a command: when the command ends, nothing of it is open any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from waypost.client import Client

__all__ = ["connected"]


@asynccontextmanager
async def connected(client: Client) -> AsyncIterator[None]:
    """Connect a client; at the end, let it leave, and wait until its connection is closed, also if it was refused.

    Args:
        client: The client.

    Raises:
        ConnectFailed: There was no connection, or the server refused this client.
    """
    try:
        await client.connect()
        yield
    finally:
        await client.close()
        await client.wait_closed()
