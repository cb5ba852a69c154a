"""A server whose handlers take their time, for clients that send more than is handled."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

io = waypost.Server(**json.loads(os.environ.get(OPTIONS_VARIABLE, "{}")))
_HANDLING_S = 0.7


@io.event
async def work(socket: waypost.Socket, *values: Any) -> int:
    """Take a while over an event."""
    await asyncio.sleep(_HANDLING_S)
    return len(values)


@io.on("work_aside", concurrent=True)
async def work_aside(socket: waypost.Socket, *values: Any) -> int:
    """Take a while over an event, beside others."""
    await asyncio.sleep(_HANDLING_S)
    return len(values)


for _number in range(10):
    io.of(f"/other-{_number}")
