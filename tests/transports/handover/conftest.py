"""Runs these tests on both loops that a server may have: descriptors and reading differ between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give each test both loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def nothing_failed_in_the_loop(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail if asyncio has logged an error: a callback that raised, for example."""
    yield
    failed = [record for record in caplog.get_records("call") if record.name == "asyncio" and record.levelno >= 40]
    assert not failed
