"""The asynchronous halves of the fixtures: each for pytest-asyncio, if it is there, and for anyio's plugin."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from waypost.client import Client
from waypost.errors import ConfigurationError
from waypost.testing.serving import serve, serve_in_memory
from waypost.testing.site import Site

__all__ = ["HALVES", "half_of", "is_asynchronous"]

_PREFIX = "waypost_half"


def is_asynchronous(request: pytest.FixtureRequest) -> bool:
    """Return whether the test that asks for a fixture is an ``async def``."""
    function = request.function
    inner = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    return inspect.iscoroutinefunction(inspect.unwrap(inner))


def half_of(request: pytest.FixtureRequest, name: str) -> Any:
    """Return the value of a fixture's asynchronous half, made by the plugin that runs the test.

    Raises:
        ConfigurationError: The test is no ``async def``, no plugin runs it, or anyio's runs it on trio.
    """
    if not is_asynchronous(request):
        expected = "an async def test; a plain one takes waypost_client or waypost_thread"
        raise ConfigurationError(f"waypost_{name}", "a fixture of a plain test", expected)
    if "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend_name")
        if backend != "asyncio":
            expected = "'asyncio', on which servers and clients run: a fixture anyio_backend that returns 'asyncio'"
            raise ConfigurationError("anyio_backend", backend, expected)
        return request.getfixturevalue(f"{_PREFIX}_{name}_anyio")
    if not request.config.pluginmanager.hasplugin("asyncio") or f"{_PREFIX}_{name}_asyncio" not in HALVES:
        expected = "pytest-asyncio, or anyio's plugin with its mark on the test, to run an async def test"
        raise ConfigurationError("pytest", "no plugin", expected)
    return request.getfixturevalue(f"{_PREFIX}_{name}_asyncio")


def _make_site() -> Callable[..., AsyncIterator[Site]]:
    async def site(waypost_application: Any) -> AsyncIterator[Site]:
        async with serve(waypost_application) as served:
            yield served

    return site


def _make_in_memory() -> Callable[..., AsyncIterator[Site]]:
    async def in_memory(waypost_application: Any) -> AsyncIterator[Site]:
        async with serve_in_memory(waypost_application) as served:
            yield served

    return in_memory


def _make_client() -> Callable[..., Any]:
    async def client(waypost_in_memory: Site, waypost_auth: Any) -> Client:
        return await waypost_in_memory.connect(auth=waypost_auth)

    return client


def _make_halves() -> dict[str, Any]:
    # pytest takes a function for one fixture only, so each plugin gets functions of its own.
    makers = {"site": _make_site, "in_memory": _make_in_memory, "client": _make_client}
    plugins = {"anyio": pytest.fixture}
    if find_spec("pytest_asyncio") is not None:
        plugins["asyncio"] = import_module("pytest_asyncio").fixture
    return {
        f"{_PREFIX}_{name}_{plugin}": fixture(make())
        for name, make in makers.items()
        for plugin, fixture in plugins.items()
    }


HALVES = _make_halves()
"""The fixtures by the names under which pytest has to find them."""
