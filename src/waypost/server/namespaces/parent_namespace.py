"""The public parent namespace: handlers, middleware and emits for all namespaces whose names fit."""

from __future__ import annotations

from collections.abc import Callable

from waypost.server.basics.targets import EVERYONE
from waypost.server.emitting.members import Members
from waypost.server.emitting.operator import Broadcasting
from waypost.server.events.listening import Listening
from waypost.server.namespaces.namespace import Namespace
from waypost.server.namespaces.parents import ParentCore
from waypost.server.namespaces.socket import Socket

__all__ = ["ParentNamespace"]


class ParentNamespace(Broadcasting, Listening[Socket]):
    """All the namespaces whose names fit. Made by `waypost.Server.of` with a pattern or a function.

    A namespace comes into being when the first client names it. What is registered here counts for each of them, also
    for those that are there already; what is emitted here goes to each of them.

    A child's own handler of an event is asked first, and then alone.

    What is emitted here reaches every child that anybody is in, or may come back to. Emits go to the children side by
    side: if one fails, others may have got it, and the error is raised when all are done. Each child has an order of
    its own; where an emit of the parent is not awaited before one of the child, either may come first.
    """

    def __init__(self, core: ParentCore, child: Callable[[str, ParentCore], Namespace]) -> None:
        self._core = core
        self._child = child
        self._registry = core.handlers
        self._middlewares = core.middlewares
        self._members: Members = core.feed
        self._target = EVERYONE
        self._flags = core.flags

    @property
    def children(self) -> dict[str, Namespace]:
        """The namespaces that there are now, by name."""
        return {name: child.public for name, child in self._core.children.items()}

    def of(self, name: str) -> Namespace:
        """Return a child, made if need be; it stays for as long as the server does.

        Args:
            name: Its name; it has to match the pattern, while a function is not asked.

        Raises:
            ConfigurationError: It is no name for a child of this one.
        """
        self._core.check_child(name)
        return self._child(name, self._core)
