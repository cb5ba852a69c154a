"""A served application, as a test sees it: its address, and clients for it."""

from __future__ import annotations

from typing import Unpack

from waypost.application import Server
from waypost.client import Client, ClientOptions

__all__ = ["Site"]


class Site:
    """A served application, and clients for it. Made by `waypost.testing.serve` and `serve_in_memory`.

    Args:
        url: Its address.
        io: The server in it.
        **defaults: Options that all clients have.

    Attributes:
        url: Its address, such as ``http://127.0.0.1:52301``.
        io: The `waypost.Server` in it.
    """

    def __init__(self, url: str, io: Server, **defaults: Unpack[ClientOptions]) -> None:
        self.url = url
        self.io = io
        self._defaults = defaults
        self._clients: list[Client] = []

    def client(self, **options: Unpack[ClientOptions]) -> Client:
        """Make a client that is not connected yet, so that handlers can be registered first.

        Args:
            **options: Those of `waypost.Client`.

        Returns:
            The client; it leaves at the end, if it has not by then.

        Raises:
            ConfigurationError: An option can't be what it is.
        """
        together: ClientOptions = {**self._defaults, **options}
        client = Client(self.url, **together)
        self._clients.append(client)
        return client

    async def connect(self, **options: Unpack[ClientOptions]) -> Client:
        """Make a client and connect it.

        Args:
            **options: Those of `waypost.Client`.

        Returns:
            The client; it leaves at the end, if it has not by then.

        Raises:
            ConfigurationError: An option can't be what it is.
            ConnectFailed: The server refused it; ``data`` is what it sent along.
        """
        client = self.client(**options)
        await client.connect()
        return client

    async def leave(self) -> None:
        """Let all clients leave."""
        for client in self._clients:
            await client.close()
