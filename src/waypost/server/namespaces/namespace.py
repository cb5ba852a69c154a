"""The public namespaces and parents: handlers, middleware, and emits to their sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from waypost.server.basics.targets import EVERYONE
from waypost.server.cluster.server_side import AmongServers
from waypost.server.emitting.members import Members
from waypost.server.emitting.operator import Broadcasting
from waypost.server.events.listening import Listening
from waypost.server.namespaces.core import NamespaceCore
from waypost.server.namespaces.parents import ParentCore
from waypost.server.namespaces.socket import Socket

__all__ = ["Namespace", "ParentNamespace"]


class Namespace(Broadcasting, Listening[Socket], AmongServers):
    """A namespace. Made by `waypost.Server.of`. The methods of ``"/"`` are on the server itself too."""

    def __init__(self, core: NamespaceCore) -> None:
        self._core = core
        self._registry = core.handlers
        self._middlewares = core.middlewares
        self._server_side = core.server_side
        self._members: Members = core.feed
        self._target = EVERYONE
        self._flags = core.flags
        self._volatile, self._local = self.volatile, self.local

    def __repr__(self) -> str:
        return f"<Namespace {self.name}>"

    @property
    def name(self) -> str:
        """The namespace's name, with its leading slash."""
        return self._core.name

    @property
    def parent(self) -> ParentNamespace | None:
        """The namespace's parent; ``None`` if it has none."""
        return None if self._core.parent is None else cast("ParentNamespace", self._core.parent.public)


class ParentNamespace(Broadcasting, Listening[Socket]):
    """All namespaces whose names match: its children. Made by `waypost.Server.of` with a pattern or a function.

    A child is made when the first client names it. Handlers and middleware of the parent apply to all children,
    existing ones too. If a child has its own handler for an event, that handler is called instead of the parent's.

    An emit reaches every child that has clients, or clients that may come back. It goes to the children concurrently:
    if one fails, others may have got the event, and the error is raised when all are done. Each child has its own
    order. An emit of the parent that is not awaited has no order relative to a later emit of a child.
    """

    def __init__(self, core: ParentCore, child: Callable[[str, ParentCore], Namespace]) -> None:
        self._core = core
        self._child = child
        self._registry = core.handlers
        self._middlewares = core.middlewares
        self._members: Members = core.feed
        self._target = EVERYONE
        self._flags = core.flags
        self._volatile, self._local = self.volatile, self.local

    @property
    def children(self) -> dict[str, Namespace]:
        """The existing children, by name."""
        return {name: child.public for name, child in self._core.children.items()}

    def of(self, name: str) -> Namespace:
        """Return a child; if it does not exist, make it. It stays as long as the server.

        Args:
            name: The child's name. It must match the pattern; a function is not called.

        Returns:
            The child; the same object each time.

        Raises:
            ConfigurationError: The name is not valid for a child of this parent.
        """
        self._core.check_child(name)
        return self._child(name, self._core)
