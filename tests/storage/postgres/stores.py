"""Stores on PostgreSQL for tests, opened and closed with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tests.storage.followers import Rows
from waypost.errors import StorageError
from waypost.storage.postgres.store import PostgresStore

DEADLINE_S = 60.0

_T = TypeVar("_T")


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[PostgresStore]:
    """A store that is open."""
    store = PostgresStore(url, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def followed(store: PostgresStore, name: str = "/") -> Rows:
    """A journal that notes its rows."""
    return Rows(await store.journal(name))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def insist(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Repeat a call that is refused while the engine is away."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await attempt()
            except StorageError:
                await asyncio.sleep(0.05)
