"""Waiting for a condition instead of for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

DEADLINE_S = 60.0
"""How long what is waited for may take: only a test that hangs ever waits so long."""
_PAUSE_S = 0.01
_T = TypeVar("_T")


async def until(condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Return as soon as ``condition`` holds; fail with ``what`` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(_PAUSE_S)


async def until_async(
    probe: Callable[[], Awaitable[_T]], accept: Callable[[_T], bool], what: str, timeout_s: float = DEADLINE_S
) -> _T:
    """Call ``probe`` until ``accept`` takes what it returned, and return that."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = await probe()
        if accept(value):
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; at last {value!r}")
        await asyncio.sleep(_PAUSE_S)
