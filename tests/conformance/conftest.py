"""One server for each module of the suite and each door."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conformance.site import DOORS, Door, Site, open_site


@pytest.fixture(scope="module", params=list(DOORS))
def door(request: pytest.FixtureRequest) -> Door:
    """What the server is served by."""
    return DOORS[request.param]


@pytest.fixture(params=["polling", "websocket"])
def transport(request: pytest.FixtureRequest) -> str:
    """What carries the connection."""
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(request: pytest.FixtureRequest, door: Door) -> AsyncIterator[Site]:
    """A server for a whole module; the module's SERVER_OPTIONS are its options."""
    async with open_site(door, **getattr(request.module, "SERVER_OPTIONS", {})) as site:
        yield site
