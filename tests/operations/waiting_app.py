"""A server whose stop lasts until a file exists."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import waypost

_GO = Path(json.loads(os.environ["WAYPOST_TEST_OPTIONS"])["go"])

io = waypost.Server()


@io.task
async def clean_up_slowly() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        while not _GO.exists():
            await asyncio.sleep(0.01)
