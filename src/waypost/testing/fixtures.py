"""Fixtures for pytest: a served application, and a client of it.

A ``conftest.py`` loads them, and overrides ``waypost_application`` with the application to serve::

pytest_plugins = ["waypost.testing.fixtures"]

@pytest.fixture
def waypost_application():
    return make_application()

Tests are plain functions, or ``async def`` under pytest-asyncio or anyio's plugin, on asyncio.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from waypost.errors import ConfigurationError
from waypost.testing.async_fixtures import HALVES, half_of, is_asynchronous
from waypost.testing.serving import serve_in_thread

if TYPE_CHECKING:
    from waypost.testing.site import Site, ThreadSite

__all__ = [
    "waypost_application",
    "waypost_auth",
    "waypost_client",
    "waypost_in_memory",
    "waypost_site",
    "waypost_thread",
]

globals().update(HALVES)  # where pytest looks for them


@pytest.fixture
def waypost_application() -> Any:
    """The application to serve. Override this fixture and return a new application for each test.

    Returns:
        A `waypost.Server`, or an ASGI application that contains one.
    """
    expected = "a fixture of this name in your conftest.py that returns a waypost.Server, or an application with one"
    raise ConfigurationError("waypost_application", None, expected)


@pytest.fixture
def waypost_auth() -> Any:
    """The auth payload of `waypost_client`, a mapping or a function; override it, or parametrize it for a test."""
    return None


@pytest.fixture
def waypost_site(request: pytest.FixtureRequest) -> Site:
    """The application, served on a free port, for ``async def`` tests. See `waypost.testing.serve`."""
    site: Site = half_of(request, "site")
    return site


@pytest.fixture
def waypost_thread(waypost_application: Any) -> Iterator[ThreadSite]:
    """The application, served in a thread for blocking clients. See `waypost.testing.serve_in_thread`."""
    with serve_in_thread(waypost_application) as site:
        yield site


@pytest.fixture
def waypost_in_memory(request: pytest.FixtureRequest) -> Site:
    """The application, served without network sockets. See `waypost.testing.serve_in_memory`."""
    site: Site = half_of(request, "in_memory")
    return site


@pytest.fixture
def waypost_client(request: pytest.FixtureRequest, waypost_auth: Any) -> Any:
    """A connected client of the namespace ``/``, with `waypost_auth`.

    Returns:
        In an ``async def`` test, a `waypost.Client` that is connected without network sockets. In a plain test, a
        `waypost.sync.Client` of the application in `waypost_thread`.
    """
    if is_asynchronous(request):
        return half_of(request, "client")
    site: ThreadSite = request.getfixturevalue("waypost_thread")
    return site.connect(auth=waypost_auth)
