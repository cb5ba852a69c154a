"""Requests straight into an ASGI application, as a server would hand them over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import waypost
from tests.server.model_client import hub_of
from tests.support.raw import Answer
from tests.support.waiting import DEADLINE_S
from waypost.transports.http_answer import AsgiApplication

Message = MutableMapping[str, Any]

POLLING = "EIO=4&transport=polling"
WEBSOCKET = "EIO=4&transport=websocket"


def scope(
    kind: str, method: str, path: str, query: str, headers: Mapping[str, str], client: str, root_path: str
) -> dict[str, Any]:
    return {
        "type": kind,
        "method": method,
        "path": path,
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "scheme": "http" if kind == "http" else "ws",
        "client": (client, 1234),
        "extensions": {"websocket.http.response": {}},
    }


async def ask(
    app: AsgiApplication,
    query: str = POLLING,
    *,
    method: str = "GET",
    path: str = "/socket.io/",
    headers: Mapping[str, str] | None = None,
    client: str = "203.0.113.7",
    root_path: str = "",
    body: Iterable[bytes] = (),
) -> Answer:
    """Make one HTTP request."""
    parts = list(body)
    sent: list[Message] = []

    async def receive() -> Message:
        if parts:
            part = parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(parts)}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(DEADLINE_S):
        await app(scope("http", method, path, query, headers or {}, client, root_path), receive, send)
    names = [(name.decode(), value.decode("latin-1")) for name, value in sent[0]["headers"]]
    assert len({name for name, _ in names}) == len(names), names
    return Answer(sent[0]["status"], dict(names), b"".join(message.get("body", b"") for message in sent[1:]))


@asynccontextmanager
async def serving(io: waypost.Server) -> AsyncIterator[waypost.Server]:
    """Run a server; its end does not wait for polling clients, who are gone by then."""
    await io.start()
    try:
        yield io
    finally:
        for connection in hub_of(io).engine.connections():
            connection.abort("the test is over")
        await io.close()


def sid_of(answer: Answer) -> str:
    """Return the session id that a handshake was answered with."""
    assert answer.status == 200, answer
    return str(json.loads(answer.body[1:])["sid"])


async def join(app: AsgiApplication) -> str:
    """Open a polling session in the main namespace; returns the query of its requests."""
    query = f"{POLLING}&sid={sid_of(await ask(app))}"
    assert (await ask(app, query, method="POST", body=[b"40"])).status == 200
    while b"40{" not in (await ask(app, query)).body:
        pass
    return query


class Socket:
    """The client's end of a WebSocket.

    Attributes:
        sent: What the application has sent so far.
    """

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._news = asyncio.Event()
        self._read = 0

    async def receive(self) -> Message:
        return await self._to_app.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self._news.set()

    def write(self, frame: str | bytes) -> None:
        kind = "bytes" if isinstance(frame, bytes) else "text"
        self._to_app.put_nowait({"type": "websocket.receive", kind: frame})

    def put(self, message: Message) -> None:
        self._to_app.put_nowait(message)

    async def next(self) -> Message:
        """Wait for the next message of the application."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.sent) == self._read:
                self._news.clear()
                await self._news.wait()
        self._read += 1
        return self.sent[self._read - 1]


@asynccontextmanager
async def websocket(
    app: AsgiApplication,
    query: str = WEBSOCKET,
    *,
    headers: Mapping[str, str] | None = None,
    client: str = "203.0.113.7",
) -> AsyncIterator[Socket]:
    """Open a WebSocket; the block's end cuts it."""
    socket = Socket()
    socket.put({"type": "websocket.connect"})
    where = scope("websocket", "GET", "/socket.io/", query, headers or {}, client, "")
    task = asyncio.ensure_future(app(where, socket.receive, socket.send))
    try:
        yield socket
    finally:
        socket.put({"type": "websocket.disconnect", "code": 1006})
        async with asyncio.timeout(DEADLINE_S):
            await task
