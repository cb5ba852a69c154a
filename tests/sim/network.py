"""A faulty network: ordered pipes with latency that stall, and links that are cut, noticed by each end or by none.

As with TCP, a pipe delivers a prefix of what was put into it: nothing is lost in the middle. What is under way when
a link is cut is lost, and what stalls may still come when the stall is over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, MutableMapping
from random import Random
from typing import Any, Protocol

from waypost.protocol.engineio import Frame

__all__ = ["End", "Link", "Pipe"]

Later = Callable[..., object]
Message = MutableMapping[str, Any]


class End(Protocol):
    """The client's end of a link."""

    def link_frame(self, link: Link, frame: Frame) -> None:
        """Take a frame."""
        ...

    def link_closed(self, link: Link) -> None:
        """Note that the link is gone. Called at most once."""
        ...


class Pipe:
    """One direction of a link.

    Args:
        later: Calls a function at a time, whoever dies meanwhile.
        time: The clock.
        chance: Where its latencies come from.
        latency_s: The longest of them.
        deliver: Called with what arrives; ``None`` is the end.

    Attributes:
        size: How much is under way.
    """

    def __init__(
        self,
        later: Later,
        time: Callable[[], float],
        chance: Random,
        latency_s: float,
        deliver: Callable[[Frame | None], None],
    ) -> None:
        self.size = 0
        self.room = asyncio.Event()
        self._later = later
        self._time = time
        self._chance = chance
        self._latency_s = latency_s
        self._deliver = deliver
        self._items: deque[Frame | None] = deque()
        self._last = 0.0
        self._due = 0
        self._stalls = 0
        self._is_cut = False

    def put(self, item: Frame | None) -> None:
        """Send something; after the cut it goes nowhere, but still takes room."""
        self.size += len(item or "")
        if self._is_cut:
            return
        self._items.append(item)
        self._last = max(self._last, self._time() + self._chance.random() * self._latency_s)
        self._later(self._last, self._arrive)

    def stall(self) -> None:
        """Let nothing arrive until as many calls of `resume`."""
        self._stalls += 1

    def resume(self) -> None:
        """Let what waits arrive."""
        self._stalls -= 1
        self._flush()

    def cut(self) -> None:
        """Lose what is under way, and all to come."""
        self._is_cut = True
        self._items.clear()

    @property
    def works(self) -> bool:
        """Whether what is put in now arrives."""
        return not self._is_cut and not self._stalls

    def _arrive(self) -> None:
        self._due += 1
        self._flush()

    def _flush(self) -> None:
        while self._due and self._items and not self._stalls:
            self._due -= 1
            item = self._items.popleft()
            self.size -= len(item or "")
            self.room.set()
            self._deliver(item)


class Link:
    """One WebSocket between a client and a server process, as ASGI sees it on the server's side.

    Attributes:
        name: What the trace calls it.
        up: From the client.
        down: To the client.
    """

    def __init__(
        self,
        name: str,
        client: End,
        later: Later,
        time: Callable[[], float],
        chance: Random,
        latency_s: float,
        window: int,
    ) -> None:
        self.name = name
        self.up = Pipe(later, time, chance, latency_s, self._arrive_up)
        self.down = Pipe(later, time, chance, latency_s, self._arrive_down)
        self._client: End | None = client
        self._window = window
        self._inbox: deque[Message] = deque([{"type": "websocket.connect"}])
        self._arrived = asyncio.Event()
        self._is_accepted = False
        self._server_closed = False

    @property
    def is_open(self) -> bool:
        """Whether the client takes it for alive."""
        return self._client is not None

    # -- the client's end -----------------------------------------------------------------------------------

    def send(self, frame: Frame) -> None:
        """Send a frame to the server."""
        self.up.put(frame)

    def close(self) -> None:
        """Let go, as a client does that gives up; the server learns of it when the line works."""
        self._client = None
        self.up.put(None)
        self.down.cut()

    def client_notices(self) -> None:
        """Let the client find out that it is gone."""
        client, self._client = self._client, None
        if client is not None:
            client.link_closed(self)

    # -- faults ---------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Lose the line; who notices is another matter."""
        self.up.cut()
        self.down.cut()

    def stall(self) -> None:
        """Let nothing arrive on either side until as many calls of `resume`."""
        self.up.stall()
        self.down.stall()

    def resume(self) -> None:
        """Let what waits arrive."""
        self.up.resume()
        self.down.resume()

    def server_notices(self) -> None:
        """Let the server find out that it is gone."""
        self._arrive_up(None)

    def server_died(self) -> None:
        """Let the client find out when what is under way has arrived."""
        self.up.cut()
        self.down.put(None)

    # -- the server's end, as ASGI has it -------------------------------------------------------------------

    async def asgi_receive(self) -> Message:
        while not self._inbox:
            self._arrived.clear()
            await self._arrived.wait()
        return self._inbox.popleft()

    async def asgi_send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._is_accepted = True
        elif kind == "websocket.send":
            await self._send_down(message)
        elif not self._server_closed:
            self._server_closed = True
            self.down.put(None)

    async def _send_down(self, message: Message) -> None:
        if self._server_closed:
            raise OSError("the WebSocket is closed")
        text = message.get("text")
        frame: Frame = message["bytes"] if text is None else text
        while self.down.size > self._window:
            self.down.room.clear()
            await self.down.room.wait()
        self.down.put(frame)

    def _arrive_up(self, frame: Frame | None) -> None:
        if frame is None:
            self._server_closed = True
            self._inbox.append({"type": "websocket.disconnect", "code": 1006})
        else:
            self._inbox.append({"type": "websocket.receive", "bytes" if isinstance(frame, bytes) else "text": frame})
        self._arrived.set()

    def _arrive_down(self, frame: Frame | None) -> None:
        if frame is None:
            self.client_notices()
        elif self._client is not None:
            self._client.link_frame(self, frame)
