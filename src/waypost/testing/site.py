"""A served application as a test sees it: its address, and clients for it."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from typing import Any, TypeVar, Unpack

from waypost import sync
from waypost.application import Server
from waypost.client import Client, ClientOptions
from waypost.loop_thread import LoopThread

__all__ = ["Site", "ThreadSite"]

T = TypeVar("T")


class Site:
    """A served application, and clients for it; made by `waypost.testing.serve` and `serve_in_memory`.

    Attributes:
        url: The application's address, such as ``http://127.0.0.1:52301``.
        io: The `waypost.Server` in the application.
    """

    def __init__(self, url: str, io: Server, **defaults: Unpack[ClientOptions]) -> None:
        self.url = url
        self.io = io
        self._defaults = defaults
        self._clients: list[Client] = []

    def client(self, **options: Unpack[ClientOptions]) -> Client:
        """Make a client that is not connected yet, so that a test can register handlers first.

        Args:
            **options: Options of `waypost.Client`.

        Returns:
            The client. It is closed at the end, if the test has not closed it.

        Raises:
            ConfigurationError: An option has a value that it does not accept.
        """
        together: ClientOptions = {**self._defaults, **options}
        client = Client(self.url, **together)
        self._clients.append(client)
        return client

    async def connect(self, **options: Unpack[ClientOptions]) -> Client:
        """Make a client and connect it.

        Args:
            **options: Options of `waypost.Client`.

        Returns:
            The connected client. It is closed at the end, if the test has not closed it.

        Raises:
            ConfigurationError: An option has a value that it does not accept.
            ConnectFailed: The server refused the client; ``data`` has the server's data.
        """
        client = self.client(**options)
        await client.connect()
        return client

    async def leave(self) -> None:
        """Close all clients."""
        for client in self._clients:
            await client.close()


class ThreadSite:
    """An application that is served in another thread, and blocking clients for it; made by `serve_in_thread`.

    Attributes:
        url: The application's address, such as ``http://127.0.0.1:52301``.
        io: The `waypost.Server` in the application. Pass its coroutines to `run`.
    """

    def __init__(self, site: Site, thread: LoopThread) -> None:
        self.url = site.url
        self.io = site.io
        self._thread = thread
        self._clients: list[sync.Client] = []

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the application's loop, and wait for its result.

        An example is ``site.run(site.io.emit("pickup", 1))``.

        Args:
            coroutine: The coroutine.

        Returns:
            The coroutine's result.

        Raises:
            Exception: Any error that the coroutine raises.
        """

        async def result() -> T:
            return await coroutine

        try:
            return self._thread.run(result)
        finally:
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                # Ctrl-C came before the loop had it: Python would warn that nobody awaited it.
                coroutine.close()

    def client(self, **options: Unpack[ClientOptions]) -> sync.Client:
        """Make a client that is not connected yet, so that a test can register handlers first.

        Args:
            **options: Options of `waypost.sync.Client`.

        Returns:
            The client. It is closed at the end, if the test has not closed it.

        Raises:
            ConfigurationError: An option has a value that it does not accept.
        """
        client = sync.Client(self.url, **options)
        self._clients.append(client)
        return client

    def connect(self, **options: Unpack[ClientOptions]) -> sync.Client:
        """Make a client and connect it.

        Args:
            **options: Options of `waypost.sync.Client`.

        Returns:
            The connected client. It is closed at the end, if the test has not closed it.

        Raises:
            ConfigurationError: An option has a value that it does not accept.
            ConnectFailed: The server refused the client; ``data`` has the server's data.
        """
        client = self.client(**options)
        client.connect()
        return client

    def leave(self) -> None:
        """Close all clients."""
        for client in self._clients:
            client.close()
