"""A worker's view of the other workers; see `waypost.transports.peers.Peers`."""

from __future__ import annotations

import socket
from collections.abc import Callable

__all__ = ["Peering"]

_Came = Callable[[int, socket.socket], None]
_Named = Callable[[int], None]


class Peering:
    """Keeps what the parent tells of other workers until somebody watches.

    Args:
        number: This worker's number.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._waiting: dict[int, socket.socket] = {}
        self._leaving: set[int] = set()
        self._watcher: tuple[_Came, _Named, _Named] | None = None

    @property
    def number(self) -> int:
        """This worker's number, from 1."""
        return self._number

    def watch(self, came: _Came, gone: _Named, leaving: _Named) -> None:
        """Call functions as other workers come and go, at once for those that are there."""
        self._watcher = came, gone, leaving
        waiting, self._waiting = self._waiting, {}
        for number, link in waiting.items():
            came(number, link)
            if number in self._leaving:
                leaving(number)
        self._leaving.clear()

    def come(self, number: int, link: socket.socket) -> None:
        """Note another worker, and a socket to it."""
        link.setblocking(False)
        if self._watcher is None:
            self._waiting[number] = link
        else:
            self._watcher[0](number, link)

    def go(self, number: int) -> None:
        """Note that the process of another worker has ended."""
        if self._watcher is not None:
            self._watcher[1](number)
        elif (link := self._waiting.pop(number, None)) is not None:
            link.close()

    def leave(self, number: int) -> None:
        """Note that another worker accepts no more clients."""
        if self._watcher is not None:
            self._watcher[2](number)
        elif number in self._waiting:
            self._leaving.add(number)

    def close(self) -> None:
        """Close the sockets that nobody has taken."""
        for link in self._waiting.values():
            link.close()
        self._waiting.clear()
