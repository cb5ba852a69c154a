"""The child namespaces that clients of other nodes have made.

Each node has a child of the same name for each of them: an emit of a parent goes to all its children, also to those
whose clients are all at other nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.server.services import Services
from waypost.storage.following import EVERYBODY, Nodes

__all__ = ["ChildrenElsewhere"]

logger = get_logger("waypost.cluster")

_TOPIC = "children"


class _Changed(msgspec.Struct, frozen=True, array_like=True):
    """Children that the clients of a node have made, and those that are gone.

    Attributes:
        made: The name of each, the number of its parent, and the address that made it if it counts for one.
        gone: The names.
    """

    made: list[tuple[str, int, str | None]]
    gone: list[str] = []


class ChildrenElsewhere:
    """The messages between nodes about child namespaces. Without other nodes it does nothing.

    Args:
        services: The services that the server's parts share.
        make: Called with a child that another node has: its name, the number of its parent, and the address that made
            it.
    """

    def __init__(self, services: Services, make: Callable[[str, int, str | None], None]) -> None:
        self._services = services
        self._make = make
        self._here: dict[str, tuple[int, str | None]] = {}
        self._there: dict[str, set[str]] = {}

    @property
    def _nodes(self) -> Nodes | None:
        return self._services.store.nodes

    def __contains__(self, name: str) -> bool:
        """Return whether a living node has clients that made this child."""
        return any(name in names for names in self._there.values())

    def start(self) -> None:
        """Listen to the other nodes; once for each opening of the store."""
        self.forget_all()
        nodes = self._nodes
        if nodes is not None:
            nodes.listen(_TOPIC, self._receive)
            nodes.watch(self._node_changed)

    def forget_all(self) -> None:
        """Forget all that belongs to a closed store."""
        self._here.clear()
        self._there.clear()

    def entered(self, name: str, parent: int, site: str | None) -> None:
        """Note that a client comes into a child here, and tell the others at the first one.

        Args:
            name: The child's name.
            parent: The number of its parent, the same on all nodes.
            site: The address that made it, if it counts for one.
        """
        if self._nodes is not None and name not in self._here:
            self._here[name] = parent, site
            self._send(EVERYBODY, _Changed([(name, parent, site)]))

    def forgotten(self, name: str) -> None:
        """Note that a child is removed here."""
        if self._here.pop(name, None) is not None:
            self._send(EVERYBODY, _Changed([], [name]))

    def _send(self, receiver: str | None, changed: _Changed) -> None:
        nodes = self._nodes
        if nodes is None:
            return
        try:
            nodes.send(receiver, _TOPIC, msgspec.msgpack.encode(changed))
        except StorageError as problem:
            logger.debug("other nodes are not told of child namespaces: %s", problem)

    def _receive(self, sender: str, message: bytes) -> None:
        nodes = self._nodes
        if nodes is None or sender == nodes.name:
            return
        try:
            changed = msgspec.msgpack.decode(message, type=_Changed)
        except msgspec.DecodeError as problem:
            logger.error("node %s has sent what can't be read: %s", sender, problem, extra=fields(node=sender))
            return
        self._note(self._there.setdefault(sender, set()), changed.made, changed.gone)

    def _note(self, there: set[str], made: Iterable[tuple[str, int, str | None]], gone: Iterable[str]) -> None:
        for name, parent, site in made:
            there.add(name)
            self._make(name, parent, site)
        there.difference_update(gone)

    def _node_changed(self, node: str, is_there: bool) -> None:
        if not is_there:
            self._there.pop(node, None)
        elif self._here:
            self._send(node, _Changed([(name, *made) for name, made in self._here.items()]))
