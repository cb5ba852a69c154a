"""The application on python-socketio: ``uvicorn …:asgi``, or ``python -m … PORT`` under aiohttp, both with uvloop."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import socketio  # type: ignore[import-untyped]
import uvloop
from aiohttp import web

_under_aiohttp = __name__ == "__main__"
sio = socketio.AsyncServer(
    async_mode="aiohttp" if _under_aiohttp else "asgi", ping_interval=float(os.environ.get("BENCH_PING_S", "25"))
)
asgi = socketio.ASGIApp(sio)


@sio.event  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, Any] | None) -> None:
    """Let in who has the token, into the rooms it asks for."""
    if not auth or auth.get("token") != "bench":
        raise socketio.exceptions.ConnectionRefusedError("a token is needed")
    for room in auth.get("rooms", ()):
        await sio.enter_room(sid, room)


@sio.event  # type: ignore[untyped-decorator]
async def ack(sid: str, *args: Any) -> tuple[Any, ...]:
    """Answer, and nothing else."""
    return args


@sio.event  # type: ignore[untyped-decorator]
async def emit_me(sid: str, value: Any) -> None:
    """Emit one event to who asks."""
    await sio.emit("told", value, to=sid)


@sio.event  # type: ignore[untyped-decorator]
async def blast(sid: str, task: dict[str, Any]) -> int:
    """Broadcast so many times, so many of them in each turn of the loop.

    There is no `except` for rooms here: who is left out is named one by one.
    """
    left_out = [member for room in task["except"] for member, _ in sio.manager.get_participants("/", room)]
    size = task["size"]
    payload: Any = b"x" * size if task["binary"] else {"text": "x" * (size - 11)}
    for number in range(1, task["count"] + 1):
        await sio.emit("blast", payload, room=task["rooms"], skip_sid=left_out or None)
        if number % task["in_a_turn"] == 0:
            await asyncio.sleep(0)
    return int(task["count"])


def _serve(port: int) -> None:
    app = web.Application()
    sio.attach(app)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, loop=uvloop.new_event_loop())


if _under_aiohttp:
    _serve(int(sys.argv[1]))
