"""A service with the HTTP API mounted, whose clients are in the rooms that they name."""

from __future__ import annotations

import json
import os
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

_options: dict[str, Any] = json.loads(os.environ[OPTIONS_VARIABLE])
_keys = _options.pop("keys")

io = waypost.Server(**_options)
app = io.asgi(Starlette(routes=[Mount("/api", io.api(keys=_keys))]))


@io.on("connect")
async def connect(socket: waypost.Socket, auth: Any) -> None:
    await socket.join(*auth["rooms"])


@io.event
async def where(socket: waypost.Socket) -> int:
    return os.getpid()
