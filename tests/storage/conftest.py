"""Stores for the tests of the storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.storage.backends import BACKENDS, Clock, Factory
from waypost.storage.base import Store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=list(BACKENDS))
def factory(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    """Makes stores of each backend in turn."""
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
async def store(factory: Factory, clock: Clock) -> AsyncIterator[Store]:
    """An open store of each backend in turn."""
    store = factory(wall_time=clock)
    await store.open()
    yield store
    await store.close()
