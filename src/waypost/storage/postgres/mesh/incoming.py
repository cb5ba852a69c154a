"""The messages of another node to this one: handled in their order, each when this node has applied as much."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from waypost.storage.postgres.mesh.messages import Message
from waypost.storage.postgres.mesh.progress import Progress

__all__ = ["WAIT_S", "Incoming"]

WAIT_S: Final = 1.0
"""Seconds for which a message waits at most until this node has applied what the sender had."""


class Incoming:
    """The stream of messages of another node; it goes on over several connections.

    Args:
        sender: The other node's name.
        stream: The name of the stream.
        progress: What this node has applied.
        receive: Called with the sender, the topic and the content of each message. It must not raise.

    Attributes:
        stream: The name of the stream.
        received: The number of the last message that came.
        handled: Called when messages were handled, with the number of the last one.
        is_open: Whether messages are handled now. Before, they wait until this node knows the sender.
    """

    __slots__ = (
        "_loop",
        "_progress",
        "_receive",
        "_sender",
        "_timer",
        "_waiting",
        "handled",
        "is_open",
        "received",
        "stream",
    )

    def __init__(
        self,
        sender: str,
        stream: str,
        progress: Progress,
        receive: Callable[[str, str, bytes], None],
    ) -> None:
        self._sender = sender
        self._progress = progress
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Message, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.stream = stream
        self.handled: Callable[[int], None] = lambda _: None
        self.received = 0
        self.is_open = False

    def open(self) -> None:
        """Handle messages from now on: this node knows the sender."""
        self.is_open = True
        self._go_on()

    def take(self, message: Message) -> None:
        """Take a message from the network; one that came before, over another connection, is ignored."""
        if message.number <= self.received:
            return
        self.received = message.number
        self._waiting.append((message, self._loop.time() + WAIT_S))
        if len(self._waiting) == 1:
            self._go_on()

    def finish(self) -> None:
        """Handle all that came, whatever it waits for: nothing more comes of this stream."""
        self._stop_timer()
        while self._waiting:
            self._handle(self._waiting.popleft()[0])

    def _go_on(self) -> None:
        """Handle messages until one must wait, or for ever if none must."""
        self._stop_timer()
        number = 0
        while self.is_open and self._waiting:
            message, deadline = self._waiting[0]
            behind = None if message.ticks is None else self._progress.behind(message.ticks)
            if behind is not None and self._loop.time() < deadline:
                self._wait(message.number, *behind, deadline)
                break
            self._waiting.popleft()
            number = message.number
            self._handle(message)
        if number:
            self.handled(number)

    def _wait(self, number: int, journal: int, tick: int, deadline: float) -> None:
        self._timer = self._loop.call_at(deadline, self._go_on)

        def ready() -> None:
            # Not from within the follower, which applies rows now.
            if self._waiting and self._waiting[0][0].number == number:
                self._loop.call_soon(self._go_on)

        self._progress.when(journal, tick, ready)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _handle(self, message: Message) -> None:
        self._receive(self._sender, message.topic, message.content)
