"""A server that writes down what it handles, to be killed: ``waypost serve tests.client.outbox_app:io``."""

from __future__ import annotations

import json
import os
import secrets
import signal
from pathlib import Path

import waypost
from tests.client.outbox_child import note, read
from tests.support.server_process import OPTIONS_VARIABLE

io = waypost.Server(drain_s=0)
_options = json.loads(os.environ[OPTIONS_VARIABLE])
_journal = Path(_options["journal"])
note(_journal, "started 0")


@io.event
async def order(socket: waypost.Socket, number: int) -> str:
    """Write an order down, with its id and an answer that no other run of this function gives."""
    is_first = number not in read(_journal, "handled")
    answer = secrets.token_hex(8)
    note(_journal, f"handled {number} {socket.message_id} {answer}")
    if is_first and number == _options["dies_at"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
