"""One server for each module of the suite and each door."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conformance.site import DOORS, Door, Site, open_site, workers

_LOOKS_INSIDE = re.compile(r"\bsite\.(?!port\b)\w+|\bprobing\(")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out tests that look into their server, where it is in other processes."""
    for item in items:
        if "[two workers" in item.name and isinstance(item, pytest.Function):
            found = _LOOKS_INSIDE.search(inspect.getsource(item.function))
            if found is not None:
                item.add_marker(pytest.mark.skip(f"looks into its server: {found[0]}"))


@pytest.fixture(scope="module", params=[*DOORS, pytest.param("two workers", marks=pytest.mark.long)])
def door(request: pytest.FixtureRequest) -> Door:
    """What the server is served by."""
    return DOORS.get(request.param, workers)


@pytest.fixture(params=["polling", "websocket"])
def transport(request: pytest.FixtureRequest) -> str:
    """What carries the connection."""
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(request: pytest.FixtureRequest, door: Door) -> AsyncIterator[Site]:
    """A server for a whole module; the module's SERVER_OPTIONS are its options."""
    async with open_site(door, **getattr(request.module, "SERVER_OPTIONS", {})) as site:
        yield site
