"""The methods with which an application registers functions on a client, for asyncio and for threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from waypost.client.messages import HANDLED, ReceivedMessage
from waypost.typed.handlers import name_of

if TYPE_CHECKING:
    from waypost.client.handlers import Handlers

__all__ = ["Listening"]

F = TypeVar("F", bound=Callable[..., Any])


class Listening(Protocol):
    """Registers the application's functions: the methods that `waypost.Client` and `waypost.sync.Client` share."""

    __slots__ = ()

    _handlers: Handlers

    @property
    def message(self) -> ReceivedMessage | None:
        """The message of a queue that the calling handler of this client handles: its id, attempt, headers.

        It is ``None`` for other events, and outside of this client's handlers.
        """
        handled = HANDLED.get()
        return handled[1] if handled is not None and handled[0] is self._handlers else None

    @overload
    def on(self, event: str) -> Callable[[F], F]: ...

    @overload
    def on(self, event: str, handler: F) -> F: ...

    def on(self, event: str, handler: F | None = None) -> F | Callable[[F], F]:
        """Register a handler, as ``@client.on("name")`` or ``client.on("name", function)``. An event has one handler.

        Args:
            event: The event's name; or ``"connect"``, ``"disconnect"`` or ``"connect_error"``, for a handler that the
                client itself calls.
            handler: Called with the event's arguments, converted to its annotations.

        Returns:
            The handler; without one, a decorator.

        Raises:
            ConfigurationError: The argument is not a function, the event has a handler already, or no argument can be
                converted to an annotation.
        """

        def add(function: F) -> F:
            self._handlers.add(event, function)
            return function

        return add if handler is None else add(handler)

    @overload
    def once(self, event: str) -> Callable[[F], F]: ...

    @overload
    def once(self, event: str, handler: F) -> F: ...

    def once(self, event: str, handler: F | None = None) -> F | Callable[[F], F]:
        """Register a handler for the next such event only; see `on`. It is removed when it is called.

        Args:
            event: As for `on`.
            handler: As for `on`.

        Returns:
            The handler; without one, a decorator.

        Raises:
            ConfigurationError: As for `on`.
        """

        def add(function: F) -> F:
            self._handlers.add(event, function, once=True)
            return function

        return add if handler is None else add(handler)

    def event(self, function: F) -> F:
        """Register a function as the handler of the event that has its name, as ``@client.event``; see `on`.

        Args:
            function: The function.

        Returns:
            The function.

        Raises:
            ConfigurationError: As for `on`.
        """
        return self.on(name_of(function), function)

    def off(self, event: str | None = None, handler: Callable[..., Any] | None = None) -> None:
        """Remove the handler of an event, or all handlers. If there is none, nothing happens.

        Args:
            event: The event's name; ``None`` for all events.
            handler: Remove the handler only if it is this one; ``None`` for any.
        """
        self._handlers.remove(event, handler)

    def on_any(self, function: F) -> F:
        """Register a function for all events from the server; usable as a decorator. There may be several.

        Args:
            function: Called with the event's name and its arguments, before the event's own handler. ``async def``,
                or ``def`` to run in a thread. Its result is ignored.

        Returns:
            The function.

        Raises:
            ConfigurationError: The function can't be called that way.
        """
        self._handlers.add_any(function)
        return function

    def off_any(self, function: Callable[..., Any] | None = None) -> None:
        """Remove a function for all events from the server.

        Args:
            function: The function; ``None`` for all of them.
        """
        self._handlers.remove_any(function)

    def on_any_outgoing(self, function: F) -> F:
        """Register a function for all emitted events; usable as a decorator. There may be several.

        Args:
            function: A short ``def``, called by ``emit`` itself with the event's name and its arguments.

        Returns:
            The function.

        Raises:
            ConfigurationError: The function is ``async``.
        """
        self._handlers.add_any_outgoing(function)
        return function

    def off_any_outgoing(self, function: Callable[..., Any] | None = None) -> None:
        """Remove a function for all emitted events.

        Args:
            function: The function; ``None`` for all of them.
        """
        self._handlers.remove_any_outgoing(function)
