"""The application's functions, and how they are run: in the order of arrival, one at a time."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from waypost.errors import ConfigurationError
from waypost.protocol.codec import Codec
from waypost.protocol.engineio import Frame

__all__ = ["Delivery", "Dispatcher", "Handlers"]

_FAREWELL = 2  # what a client that leaves puts into the line it has dropped must not wait for room

logger = logging.getLogger("waypost.client")


class Handlers:
    """The functions by event, one an event; ``connect``, ``disconnect`` and ``connect_error`` are among them."""

    __slots__ = ("_functions",)

    def __init__(self) -> None:
        self._functions: dict[str, Callable[..., Awaitable[Any]]] = {}

    def add(self, event: str, function: Callable[..., Any]) -> None:
        """Register an event's function; an earlier one is replaced.

        Args:
            event: The event's name.
            function: The function; a plain ``def`` will run in a thread.

        Raises:
            ConfigurationError: It is no function.
        """
        if not callable(function):
            raise ConfigurationError(f"handler of {event}", function, "a function")
        method = getattr(function, "__call__", None)  # noqa: B004  # an object whose __call__ is async def
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(method)
        self._functions[event] = function if is_async else partial(asyncio.to_thread, function)

    def get(self, event: str) -> Callable[..., Awaitable[Any]] | None:
        """Return an event's function, to be awaited."""
        return self._functions.get(event)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something that happened, for the application.

    Attributes:
        event: The event's name.
        arguments: Its arguments.
        namespace: Where it came in, for the acknowledgement.
        ack_id: The id to acknowledge it with, if the server asked for that.
        sid: The session that it came in; an acknowledgement is meant for that one only.
    """

    event: str
    arguments: tuple[Any, ...]
    namespace: str = "/"
    ack_id: int | None = None
    sid: str | None = None


Answer: TypeAlias = Callable[[int, tuple[Frame, ...], str | None], None]


class Dispatcher:
    """Runs handlers, in the order in which things happened, one at a time.

    Call `deliver` for whatever happens, and `run` in a task of its own; it ends after `end`.

    Args:
        handlers: Where to look functions up.
        codec: What acknowledgements are written in.
        answer: Sends an acknowledgement: its id, its frames, and the session it is for.
        max_pending: How many deliveries may wait before `deliver` does.
    """

    __slots__ = ("_answer", "_codec", "_handlers", "_queue")

    def __init__(self, handlers: Handlers, codec: Codec, answer: Answer, max_pending: int) -> None:
        self._codec = codec
        self._handlers = handlers
        self._answer = answer
        self._queue: asyncio.Queue[Delivery | None] = asyncio.Queue(max(max_pending, _FAREWELL))

    async def deliver(self, delivery: Delivery) -> None:
        """Put something at the end of the line; wait while the line is full."""
        await self._queue.put(delivery)

    def drop(self) -> None:
        """Forget what waits; a handler that runs goes on."""
        while not self._queue.empty():
            self._queue.get_nowait()

    async def end(self) -> None:
        """Let `run` end when the line is empty; wait while it is full."""
        await self._queue.put(None)

    async def run(self) -> None:
        """Run handlers until the end."""
        while (delivery := await self._queue.get()) is not None:
            function = self._handlers.get(delivery.event)
            if function is None:
                logger.debug("event %r has no handler", delivery.event)
                continue
            frames = await _handle(function, delivery, self._codec)
            if delivery.ack_id is not None:
                self._answer(delivery.ack_id, frames, delivery.sid)


async def _handle(function: Callable[..., Awaitable[Any]], delivery: Delivery, codec: Codec) -> tuple[Frame, ...]:
    """Run a handler; return the frames of the acknowledgement, none if the server did not ask for one."""
    try:
        result = await function(*delivery.arguments)
        return _ack(delivery, codec, result if isinstance(result, tuple) else () if result is None else (result,))
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return _failed(delivery, codec, error)  # something that the handler awaited was cancelled
    except Exception as error:  # noqa: BLE001  # logged there
        return _failed(delivery, codec, error)


def _failed(delivery: Delivery, codec: Codec, error: BaseException) -> tuple[Frame, ...]:
    logger.error("the handler of event %r failed", delivery.event, exc_info=error)
    return _ack(delivery, codec, ({"nack": type(error).__name__},))


def _ack(delivery: Delivery, codec: Codec, arguments: tuple[Any, ...]) -> tuple[Frame, ...]:
    if delivery.ack_id is None:
        return ()
    return codec.encode_ack(delivery.namespace, delivery.ack_id, arguments)
