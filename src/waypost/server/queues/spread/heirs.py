"""The next owner of a consumer that this node gives up: it must know what is in hand here before that."""

from __future__ import annotations

import asyncio

from waypost.server.queues.spread.branch import Branch
from waypost.server.queues.spread.letters import Inherit
from waypost.server.queues.spread.post import Key, Post
from waypost.storage.following import Nodes

__all__ = ["Heirs"]

_HEIR_S = 2.0


class Heirs:
    """Asks other nodes to own what this node gives up.

    Args:
        nodes: The nodes.
        post: Sends messages to nodes.
    """

    __slots__ = ("_declined", "_nodes", "_post")

    def __init__(self, nodes: Nodes, post: Post) -> None:
        self._nodes = nodes
        self._post = post
        self._declined: dict[Key, asyncio.Event] = {}

    async def find(self, key: Key, branch: Branch) -> None:
        """Let another node own a consumer; each has two seconds to do so."""
        for node in list(self._nodes.others):
            if branch.owner is not None or not branch.holds:
                return
            declined = self._declined[key] = asyncio.Event()
            self._post.send(node, key, Inherit())
            waits = [asyncio.ensure_future(branch.owned()), asyncio.ensure_future(declined.wait())]
            try:
                await asyncio.wait(waits, timeout=_HEIR_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                self._declined.pop(key, None)

    def decline(self, key: Key) -> None:
        """Note that the node which was asked ends, too."""
        if key in self._declined:
            self._declined[key].set()
