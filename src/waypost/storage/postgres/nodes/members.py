"""The servers that this node knows to be alive, and who is told when one comes or is gone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from waypost.storage.postgres.nodes.observing import Seen

__all__ = ["Members"]


class Members:
    """The other nodes that are servers, as this one has told its watchers of them.

    Args:
        own: This node's name.

    Attributes:
        names: The name of each node that was ever seen here, by its number.
        ids: The number of each, by its name.
    """

    __slots__ = ("_alive", "_own", "_watchers", "ids", "names")

    def __init__(self, own: str) -> None:
        self._own = own
        self._alive: dict[str, Seen] = {}
        self._watchers: list[Callable[[str, bool], None]] = []
        self.names: dict[int, str] = {}
        self.ids: dict[str, int] = {}

    @property
    def others(self) -> Collection[str]:
        """The names of the other nodes that are alive."""
        return tuple(self._alive)

    @property
    def alive(self) -> Mapping[str, Seen]:
        """The other nodes that are alive, by name, as they were seen last."""
        return self._alive

    def place(self, number: int) -> tuple[str, str] | None:
        """Return the name and the address of a node by its number; ``None`` if it is not known to be alive."""
        known = self._alive.get(self.names.get(number, ""))
        return None if known is None else (known.name, known.address)

    def watch(self, changed: Callable[[str, bool], None]) -> None:
        """Call a function with the name of each other node that comes (True) or is gone (False)."""
        self._watchers.append(changed)

    def came(self, nodes: Iterable[Seen]) -> list[Seen]:
        """Take the living nodes of a beat; returns the servers that are new, of which `tell` is to be called."""
        new = []
        for one in nodes:
            self.names[one.id] = one.name
            self.ids[one.name] = one.id
            if one.name == self._own or not one.address:
                continue
            known = self._alive.get(one.name)
            if known is None:
                new.append(one)
                self._alive[one.name] = one
            elif known.deaths == one.deaths:
                self._alive[one.name] = one
        return new

    def missing(self, nodes: Iterable[Seen]) -> list[str]:
        """Return the names of those that are not alive any more, or were dead in between."""
        deaths = {one.name: one.deaths for one in nodes}
        return [name for name, known in self._alive.items() if deaths.get(name) != known.deaths]

    def gone(self, name: str) -> None:
        """Note that a node is gone."""
        self._alive.pop(name, None)

    def tell(self, name: str, *, is_there: bool) -> None:
        """Tell the watchers of a node."""
        for changed in [*self._watchers]:
            changed(name, is_there)
