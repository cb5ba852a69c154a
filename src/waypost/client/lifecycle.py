"""The events of the connection that all namespaces share, and their handlers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, overload

from waypost.checking.arguments import check
from waypost.checking.rules import Rule
from waypost.client.handlers import Handlers
from waypost.logs import get_logger
from waypost.typed.handlers import Handler

__all__ = ["ConnectionEvents", "Lifecycle"]

EVENTS = frozenset(
    ("open", "close", "error", "ping", "reconnect_attempt", "reconnect", "reconnect_error", "reconnect_failed")
)
_NAMES = tuple(sorted(EVENTS))
_EVENT = Rule(f"one of {', '.join(_NAMES)}", lambda event: event in _NAMES, _NAMES)


F = TypeVar("F", bound=Callable[..., Any])

logger = get_logger("waypost.client")


class ConnectionEvents:
    """The events of the connection that all namespaces of a client share; the value of `waypost.Client.io`.

    ``open()``: a connection is open, without a namespace yet. ``close(reason, details)``: it has ended.
    ``error(error)``: an attempt failed, with a `ConnectFailed`. ``ping()``: a heartbeat arrived.
    ``reconnect_attempt(number)``, ``reconnect_error(error)``, ``reconnect(number)``: an attempt to reconnect starts,
    failed, or succeeded. ``reconnect_failed()``: the client has given up.

    Functions are ``async def``, or ``def`` to run in a thread. They may take fewer of these arguments, and run one at
    a time.
    """

    __slots__ = ("_handlers",)

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    @overload
    def on(self, event: str) -> Callable[[F], F]: ...
    @overload
    def on(self, event: str, handler: F) -> F: ...
    def on(self, event: str, handler: F | None = None) -> F | Callable[[F], F]:
        """Register the function for an event; an event has one function.

        Args:
            event: The name of one of the events above.
            handler: The function; without one, this is a decorator.

        Returns:
            The function, or the decorator.

        Raises:
            ConfigurationError: The event does not exist or has a function already, or the argument is not a function.
        """
        check("event", event, _EVENT)

        def register(function: F) -> F:
            self._handlers.add(event, function)
            return function

        return register if handler is None else register(handler)

    def off(self, event: str | None = None, handler: Callable[..., Any] | None = None) -> None:
        """Remove the function of an event, or all functions.

        Args:
            event: The event's name; ``None`` for all events.
            handler: Remove the function only if it is this one; ``None`` for any.
        """
        self._handlers.remove(event, handler)


class Lifecycle:
    """Calls the application's functions for the connection's events, one at a time.

    Attributes:
        public: The object with which the application registers functions.
    """

    __slots__ = ("_handlers", "_waiting", "_worker", "public")

    def __init__(self) -> None:
        self._handlers = Handlers(EVENTS)
        self._waiting: deque[tuple[Handler, tuple[Any, ...]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self.public = ConnectionEvents(self._handlers)

    def tell(self, event: str, *arguments: Any) -> None:
        """Call an event's function soon."""
        function = self._handlers.take(event)
        if function is not None:
            self._waiting.append((function, arguments))
            if self._worker is None:
                self._worker = asyncio.create_task(self._work())

    @property
    def is_current(self) -> bool:
        """Whether the caller is one of the functions."""
        return self._worker is not None and self._worker is asyncio.current_task()

    async def idle(self) -> None:
        """Wait until the last function has returned. May be cancelled."""
        while self._worker is not None:
            await asyncio.wait((self._worker,))

    async def _work(self) -> None:
        try:
            while self._waiting:
                function, arguments = self._waiting.popleft()
                try:
                    await function.run_with(arguments)
                except Exception:
                    logger.exception("a function for the connection's events failed")
        finally:
            self._worker = None
