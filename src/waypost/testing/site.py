"""A served application, as a test sees it: its address, and clients for it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar, Unpack

from waypost import sync
from waypost.application import Server
from waypost.client import Client, ClientOptions
from waypost.client.loop_thread import LoopThread

__all__ = ["Site", "ThreadSite"]

T = TypeVar("T")


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


class ThreadSite:
    """An application that is served in another thread, and blocking clients for it. Made by `serve_in_thread`.

    Args:
        site: The same, for that thread.
        thread: That thread.

    Attributes:
        url: Its address, such as ``http://127.0.0.1:52301``.
        io: The `waypost.Server` in it; what is to be awaited of it goes to `run`.
    """

    def __init__(self, site: Site, thread: LoopThread) -> None:
        self.url = site.url
        self.io = site.io
        self._thread = thread
        self._clients: list[sync.Client] = []

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something where the application runs, such as ``site.io.emit("pickup", 1)``.

        Args:
            coroutine: What to run.

        Returns:
            What it returns.
        """
        return self._thread.run(coroutine)

    def client(self, **options: Unpack[ClientOptions]) -> sync.Client:
        """Make a client that is not connected yet, so that handlers can be registered first.

        Args:
            **options: Those of `waypost.sync.Client`.

        Returns:
            The client; it leaves at the end, if it has not by then.

        Raises:
            ConfigurationError: An option can't be what it is.
        """
        client = sync.Client(self.url, **options)
        self._clients.append(client)
        return client

    def connect(self, **options: Unpack[ClientOptions]) -> sync.Client:
        """Make a client and connect it.

        Args:
            **options: Those of `waypost.sync.Client`.

        Returns:
            The client; it leaves at the end, if it has not by then.

        Raises:
            ConfigurationError: An option can't be what it is.
            ConnectFailed: The server refused it; ``data`` is what it sent along.
        """
        client = self.client(**options)
        client.connect()
        return client

    def leave(self) -> None:
        """Let all clients leave."""
        for client in self._clients:
            client.close()
