"""The public namespace: the application's handlers and middleware, and emits to the sockets in it."""

from __future__ import annotations

from typing import Any

from waypost.server.basics.targets import EVERYONE
from waypost.server.cluster.server_side import AmongServers
from waypost.server.emitting.members import Members
from waypost.server.emitting.operator import Broadcasting
from waypost.server.events.listening import Listening
from waypost.server.namespaces.core import NamespaceCore
from waypost.server.namespaces.socket import Socket

__all__ = ["Namespace"]


class Namespace(Broadcasting, Listening[Socket], AmongServers):
    """A namespace. Made by `waypost.Server.of`; everything about ``"/"`` is on the server itself too."""

    def __init__(self, core: NamespaceCore) -> None:
        self._core = core
        self._registry = core.handlers
        self._middlewares = core.middlewares
        self._server_side = core.server_side
        self._members: Members = core.feed
        self._target = EVERYONE
        self._flags = core.flags

    def __repr__(self) -> str:
        return f"<Namespace {self.name}>"

    @property
    def name(self) -> str:
        """Its name, with the leading slash."""
        return self._core.name

    @property
    def parent(self) -> Any:
        """The `ParentNamespace` that it is a child of; ``None`` if it has none."""
        return None if self._core.parent is None else self._core.parent.public
