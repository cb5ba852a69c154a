"""A long-polling client: a poll is always under way, and events go in POSTs beside it."""

from __future__ import annotations

import asyncio
import json

from bench.speed.asking import Tally, Unexpected
from bench.speed.entering import leave
from bench.speed.http import HttpConnection, connect_http, get_request, post_request

__all__ = ["Poller", "connect_all", "open_session"]

_CONNECT = '40{"token":"bench"}'


async def open_session(port: int, connection: HttpConnection) -> str:
    """Open a session and join the namespace over one connection, one request after the other; returns its id."""
    sid = str(json.loads((await connection.ask(get_request(port)))[1:])["sid"])
    await connection.ask(post_request(port, sid, _CONNECT))
    answer = await connection.ask(get_request(port, sid))
    if not answer.startswith(b"40"):
        raise Unexpected(f"a polling client was not let in: {answer[:200]!r}")
    return sid


class Poller:
    """A client that asks the next question when the last one is answered.

    Args:
        port: The server's.
        tally: Where it is counted.
    """

    def __init__(self, port: int, tally: Tally) -> None:
        self._port = port
        self._tally = tally
        self._number = 0
        self._expected = b""
        self._sid = ""
        self._poll = b""
        self._polls: HttpConnection
        self._posts: HttpConnection
        self._is_posting = False
        self._to_post: list[str] = []

    async def connect(self, number: int) -> None:
        """Open the session, and leave a poll under way."""
        self._polls, self._posts = await connect_http(self._port, number), await connect_http(self._port, number)
        self._sid = await open_session(self._port, self._polls)
        self._poll = get_request(self._port, self._sid)
        self._polls.on_body, self._posts.on_body = self._take_packets, self._take_receipt
        self._polls.transport.write(self._poll)

    def start(self) -> None:
        """Ask the first question."""
        self._ask()

    def close(self) -> None:
        """Leave."""
        for connection in (self._polls, self._posts):
            leave(connection.transport)

    def _ask(self) -> None:
        self._number += 1
        self._tally.sent += 1
        self._expected = f'43{self._number}[{{"number":{self._number}}}]'.encode()
        self._post(f'42{self._number}["ack",{{"number":{self._number}}}]')

    def _post(self, packet: str) -> None:
        if self._is_posting:
            self._to_post.append(packet)
            return
        self._is_posting = True
        self._posts.transport.write(post_request(self._port, self._sid, packet))

    def _take_receipt(self, _body: bytes) -> None:
        self._is_posting = False
        if self._to_post:
            self._post(self._to_post.pop(0))

    def _take_packets(self, body: bytes) -> None:
        self._polls.transport.write(self._poll)
        for packet in body.split(b"\x1e"):
            if packet == self._expected:
                self._tally.done += 1
                if self._tally.running:
                    self._ask()
            elif packet == b"2":
                self._post("3")
            else:
                self._tally.failure = Unexpected(f"expected {self._expected!r}, got {packet[:200]!r}")


async def connect_all(pollers: list[Poller]) -> None:
    """Connect many, some at a time."""
    waiting = iter(enumerate(pollers))

    async def usher() -> None:
        for number, poller in waiting:
            await poller.connect(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(32):
            group.create_task(usher())
