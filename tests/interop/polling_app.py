"""The application of tests/interop/app.py, whose workers note what they have read: a killed one can tell nobody."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.interop.app import io
from tests.support.spread import NOTES_VARIABLE

__all__ = ["io"]

_INTERVAL_S = 0.05


@io.task
async def note() -> None:
    """Write how many requests of other workers' sessions this worker has read, again and again."""
    path = Path(os.environ[NOTES_VARIABLE]) / str(os.getpid())
    while True:
        state = io.state()
        counters = state.servers[state.server].counters if state.server else state.counters
        path.write_text(str(counters.foreign_requests))
        await asyncio.sleep(_INTERVAL_S)
