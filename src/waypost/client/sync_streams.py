"""Events as loops, for programs without asyncio: ``for event in client.events("pickup")``."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from waypost.client import streams
from waypost.client.loop_thread import LoopThread

__all__ = ["EventStream", "ReceivedEvent"]


class EventStream:
    """The events of some names, in the order of arrival. Made by `Client.events`.

    It ends with `close`, with the ``with`` block around it, or when the client has left. An event is acknowledged
    when the next one is asked for; to leave the loop in between, call `ReceivedEvent.ack` first.
    """

    __slots__ = ("_inner", "_thread")

    def __init__(self, thread: LoopThread, stream: streams.EventStream) -> None:
        self._thread = thread
        self._inner = stream

    def next(self, timeout_s: float | None = None) -> ReceivedEvent:
        """Wait for the next event.

        Args:
            timeout_s: Seconds to wait; ``None`` for as long as it takes.

        Returns:
            The event.

        Raises:
            StopIteration: The loop has ended.
            TimeoutError: There was none in time.
        """

        async def step() -> streams.ReceivedEvent | None:
            async with asyncio.timeout(timeout_s):
                return await anext(self._inner, None)

        event = self._thread.run(step())
        if event is None:
            raise StopIteration
        return ReceivedEvent(self._thread, event)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReceivedEvent:
        return self.next()

    def close(self) -> None:
        """End the loop. The events that it was given and has not acknowledged are rejected."""
        self._thread.run(self._inner.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class ReceivedEvent:
    """An event that a loop was given.

    Attributes:
        name: Its name.
        args: Its arguments.
        arg: Its only argument, a tuple of several, or ``None``.
    """

    __slots__ = ("_inner", "_thread", "arg", "args", "name")

    def __init__(self, thread: LoopThread, event: streams.ReceivedEvent) -> None:
        self._thread = thread
        self._inner = event
        self.name = event.name
        self.args = event.args
        self.arg = event.arg

    def __repr__(self) -> str:
        return repr(self._inner)

    def ack(self, *values: Any) -> None:
        """Acknowledge it; does nothing if the server did not ask for that, or if that is done.

        A loop acknowledges an event by itself when it asks for the next one.

        Args:
            *values: The ack's arguments.
        """
        self._thread.run(self._inner.ack(*values))

    def reject(self, reason: str, retry_in_s: float | None = None) -> None:
        """Reject it, so that a queue delivers it again later.

        Args:
            reason: Why.
            retry_in_s: Seconds until then; ``None`` leaves them to the server.
        """
        self._thread.run(self._inner.reject(reason, retry_in_s))
