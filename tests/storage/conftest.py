"""Stores for the tests of the storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.storage.backends import BACKENDS, POSTGRES_TEMPLATE, Clock, Factory, PostgresFactory, make_schema
from waypost.storage.base import Store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _server_of_postgres(request: pytest.FixtureRequest) -> None:
    """Start the shared PostgreSQL for a test of that backend."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "postgres" in callspec.params.values():
        request.getfixturevalue("postgres").template(POSTGRES_TEMPLATE, make_schema)


@pytest.fixture(params=list(BACKENDS))
def factory(request: pytest.FixtureRequest, tmp_path: Path, _server_of_postgres: None) -> Iterator[Factory]:
    """Makes stores of each backend in turn."""
    factory = BACKENDS[request.param](tmp_path)
    yield factory
    if isinstance(factory, PostgresFactory):
        factory.drop()


@pytest.fixture
async def store(factory: Factory, clock: Clock) -> AsyncIterator[Store]:
    """An open store of each backend in turn."""
    store = factory(wall_time=clock)
    await store.open()
    yield store
    await store.close()
