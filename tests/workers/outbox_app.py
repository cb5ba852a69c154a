"""An application that notes in a file which events of clients' outboxes it has handled, and in which process."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

_options: dict[str, Any] = json.loads(os.environ[OPTIONS_VARIABLE])
_notes: str = _options.pop("notes")

io = waypost.Server(**_options)


def _note(*what: Any) -> None:
    with open(_notes, "a") as file:  # appended by several processes, a line at a time
        file.write(json.dumps(what) + "\n")


@io.event
async def order(socket: waypost.Socket, number: int, seconds: float) -> int:
    _note("begins", number, os.getpid())
    await asyncio.sleep(seconds)
    _note("ends", number, os.getpid())
    return number
