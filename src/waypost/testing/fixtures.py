"""Fixtures for pytest: a served application, and a client of it.

A ``conftest.py`` loads them, and overrides ``waypost_application`` with the application to serve::

pytest_plugins = ["waypost.testing.fixtures"]

@pytest.fixture
def waypost_application():
    return make_application()
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from waypost.client import Client
from waypost.errors import ConfigurationError
from waypost.testing.serving import serve, serve_in_memory, serve_in_thread
from waypost.testing.site import Site, ThreadSite

__all__ = ["waypost_application", "waypost_client", "waypost_in_memory", "waypost_site", "waypost_thread"]


@pytest.fixture
def waypost_application() -> Any:
    """The application to serve. Override this fixture and return a new application for each test.

    Returns:
        A `waypost.Server`, or an ASGI application that contains one.
    """
    expected = "a fixture of this name in your conftest.py that returns a waypost.Server, or an application with one"
    raise ConfigurationError("waypost_application", None, expected)


@pytest_asyncio.fixture
async def waypost_site(waypost_application: Any) -> AsyncIterator[Site]:
    """The application, served on a free port. See `waypost.testing.serve`."""
    async with serve(waypost_application) as site:
        yield site


@pytest.fixture
def waypost_thread(waypost_application: Any) -> Iterator[ThreadSite]:
    """The application, served in a thread for blocking clients. See `waypost.testing.serve_in_thread`."""
    with serve_in_thread(waypost_application) as site:
        yield site


@pytest_asyncio.fixture
async def waypost_in_memory(waypost_application: Any) -> AsyncIterator[Site]:
    """The application, served without network sockets. See `waypost.testing.serve_in_memory`."""
    async with serve_in_memory(waypost_application) as site:
        yield site


@pytest_asyncio.fixture
async def waypost_client(waypost_in_memory: Site) -> Client:
    """A client of the namespace ``/``, connected without network sockets."""
    return await waypost_in_memory.connect()
