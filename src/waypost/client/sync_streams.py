"""Loops over events, for programs without asyncio: ``for event in client.events("pickup")``."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from waypost.client import streams
from waypost.loop_thread import LoopThread

__all__ = ["EventStream", "ReceivedEvent"]


class EventStream:
    """A loop over events, in the order of arrival. Made by `Client.events`.

    It ends with `close`, with the ``with`` block around it, or when the client has left. An event is acknowledged
    when the loop asks for the next one. Call `ReceivedEvent.ack` before you leave the loop in between.
    """

    __slots__ = ("_inner", "_thread")

    def __init__(self, thread: LoopThread, stream: streams.EventStream) -> None:
        self._thread = thread
        self._inner = stream

    def next(self, timeout_s: float | None = None) -> ReceivedEvent:
        """Wait for the next event.

        Args:
            timeout_s: Seconds to wait, from 0; ``None`` for no limit.

        Returns:
            The event.

        Raises:
            StopIteration: The loop has ended.
            TimeoutError: No event arrived in time.
        """

        async def step() -> streams.ReceivedEvent | None:
            async with asyncio.timeout(timeout_s):
                return await anext(self._inner, None)

        event = self._thread.run(step)
        if event is None:
            raise StopIteration
        return ReceivedEvent(self._thread, event)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReceivedEvent:
        return self.next()

    def close(self) -> None:
        """End the loop. Its unacknowledged events are rejected."""
        self._thread.run(self._inner.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class ReceivedEvent:
    """An event that a loop received.

    Attributes:
        name: The event's name.
        args: The event's arguments.
        arg: The event's only argument, a tuple of several, or ``None``.
        message: The message's id, attempt and headers, if a queue delivers the event; else ``None``.
    """

    __slots__ = ("_inner", "_thread", "arg", "args", "message", "name")

    def __init__(self, thread: LoopThread, event: streams.ReceivedEvent) -> None:
        self._thread = thread
        self._inner = event
        self.name = event.name
        self.args = event.args
        self.arg = event.arg
        self.message = event.message

    def __repr__(self) -> str:
        return repr(self._inner)

    def ack(self, *values: Any) -> None:
        """Acknowledge the event. If the server asked for no acknowledgement or has it already, nothing happens.

        A loop acknowledges an event by itself when it asks for the next one.

        Args:
            *values: The acknowledgement's arguments.

        Raises:
            EncodingFailed: A value can't be encoded.
        """
        self._thread.run(self._inner.ack, *values)

    def reject(self, reason: str, retry_in_s: float | None = None, *, final: bool = False) -> None:
        """Reject the event; a queue then delivers it again later, or makes it a dead letter.

        Args:
            reason: The reason.
            retry_in_s: Seconds until the next delivery; ``None`` uses the queue's retry delay.
            final: True if the message is not to be delivered again: it is a dead letter at once.
        """
        self._thread.run(self._inner.reject, reason, retry_in_s, final=final)
