"""A python-socketio server and its port by docs/migrating.md: python-socketio's own client sees no difference.

It needs the installed package and python-socketio.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import socketio  # type: ignore[import-untyped]

_DEADLINE_S = 60
_LISTENING = re.compile(r"(http://127\.0\.0\.1:\d+)")

_ORIGINAL = """
import socketio

sio = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(sio, static_files={"/": "page/index.html"})


@sio.event
async def connect(sid, environ, auth):
    if not auth or "user" not in auth:
        raise ConnectionRefusedError("who are you?")
    await sio.save_session(sid, {"user": auth["user"]})
    await sio.emit("welcome", (auth["user"], {"count": 0}), to=sid)


@sio.event
async def join(sid, room):
    await sio.enter_room(sid, room)
    return "joined", room


@sio.event
async def say(sid, room, text):
    session = await sio.get_session(sid)
    await sio.emit("said", {"by": session["user"], "text": text}, room=room, skip_sid=sid)


@sio.on("close room")
async def close(sid, room):
    await sio.close_room(room)
    return True


@sio.event
async def ask_me(sid):
    async def answered(answer):
        await sio.emit("answered", answer, to=sid)

    await sio.emit("question", {"a": 1}, to=sid, callback=answered)


class Chat(socketio.AsyncNamespace):
    async def on_shout(self, sid, text):
        await self.emit("shouted", text.upper(), skip_sid=sid)
        return len(text)


sio.register_namespace(Chat("/chat"))
"""

_PORTED = """
import waypost
from starlette.staticfiles import StaticFiles

io = waypost.Server()
app = io.asgi(StaticFiles(directory="page", html=True))


@io.on("connect")
async def connect(socket, auth):
    if "user" not in auth:
        raise waypost.ConnectionRefused("who are you?")
    socket.data["user"] = auth["user"]
    await socket.emit("welcome", auth["user"], {"count": 0})


@io.event
async def join(socket, room):
    await socket.join(room)
    return "joined", room


@io.event
async def say(socket, room, text):
    await socket.to(room).emit("said", {"by": socket.data["user"], "text": text})


@io.on("close room")
async def close(socket, room):
    await io.in_(room).sockets_leave(room)
    return True


@io.event
async def ask_me(socket):
    await socket.emit("answered", await socket.call("question", {"a": 1}))


class Chat:
    async def on_shout(self, socket, text):
        await socket.broadcast.emit("shouted", text.upper())
        return len(text)


io.of("/chat").register(Chat())
"""


def main() -> None:
    """Run both servers in the current directory, and compare what clients see."""
    Path("page").mkdir()
    Path("page/index.html").write_text("<h1>a page</h1>", encoding="utf-8")
    Path("original.py").write_text(_ORIGINAL, encoding="utf-8")
    Path("ported.py").write_text(_PORTED, encoding="utf-8")
    seen = []
    for command in (["uvicorn", "original:app"], ["waypost", "serve", "ported:app"]):
        with _serving([sys.executable, "-m", *command, "--port", "0"]) as url:
            seen.append(asyncio.run(_visit(url)))
    assert seen[0] == seen[1], f"\n{seen[0]}\n{seen[1]}"
    assert len(seen[0]) == 11


@contextlib.contextmanager
def _serving(command: list[str]) -> Iterator[str]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            said = []
            for line in server.stdout:
                said.append(line)
                if found := _LISTENING.search(line):
                    yield found[1]
                    break
            else:
                raise AssertionError(f"{command} did not start:\n" + "".join(said))
        finally:
            server.terminate()
            server.wait(_DEADLINE_S)


@contextlib.asynccontextmanager
async def _client(url: str, namespace: str = "/", **options: Any) -> AsyncIterator[socketio.AsyncClient]:
    client = socketio.AsyncClient(reconnection=False)
    client.events = asyncio.Queue()

    @client.on("*", namespace=namespace)  # type: ignore[untyped-decorator]
    async def note(event: str, *args: Any) -> str:
        await client.events.put((event, *args))
        return "an answer"

    await client.connect(url, namespaces=[namespace], wait_timeout=_DEADLINE_S, **options)
    try:
        yield client
    finally:
        await client.disconnect()


async def _visit(url: str) -> list[Any]:
    """Return everything that two clients see."""
    seen: list[Any] = []

    async def sees(client: socketio.AsyncClient) -> None:
        seen.append(await asyncio.wait_for(client.events.get(), _DEADLINE_S))

    try:
        async with _client(url):
            pass
    except socketio.exceptions.ConnectionError as refused:
        seen.append(str(refused))
    async with _client(url, auth={"user": "ada"}) as ada, _client(url, auth={"user": "bob"}) as bob:
        await sees(ada)
        await sees(bob)
        seen.append(await ada.call("join", "gate 3"))
        seen.append(await bob.call("join", "gate 3"))
        await ada.emit("say", ("gate 3", "hello"))
        await sees(bob)
        await bob.emit("ask_me")
        await sees(bob)
        await sees(bob)
        seen.append(await ada.call("close room", "gate 3"))
        await ada.emit("say", ("gate 3", "is anybody here?"))
        await ada.call("join", "gate 4")  # behind what nobody heard
        assert bob.events.empty()
    async with _client(url, "/chat") as ada, _client(url, "/chat") as bob:
        seen.append(await ada.call("shout", "hello", namespace="/chat"))
        await sees(bob)
    return seen


if __name__ == "__main__":
    main()
