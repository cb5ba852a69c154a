"""A server that writes down what it handles, to be killed: ``waypost serve tests.client.outbox_app:io``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import waypost
from tests.client.outbox_child import note
from tests.support.server_process import OPTIONS_VARIABLE

io = waypost.Server(drain_s=0)
_journal = Path(json.loads(os.environ[OPTIONS_VARIABLE])["journal"])
note(_journal, "started 0")


@io.event
async def order(socket: waypost.Socket, number: int) -> None:
    """Write an order down, with its id."""
    note(_journal, f"handled {number} {socket.message_id}")
