"""The home of each session: the node that attached it last; and the claims of nodes to which its client has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from waypost.storage.following import ClaimVoid
from waypost.storage.host.node import HostedNode

__all__ = ["NOBODY", "Homes"]

NOBODY = b""
"""The key of no session: a write for it changes nothing, and has its place in the order of writes."""


@dataclass(slots=True)
class _Home:
    """The home of a session, and the last claim for it.

    Attributes:
        node: The home; ``None`` if it is dead, or was in an earlier opening of the store.
        sid: The session's sid; ``""`` as long as it is not known.
        is_attached: Whether the home has the session attached.
        expires_at: When the session ends if nobody attaches it; ``None`` if the home has not said so.
        handed: What the home has handed over for the next life; ``None`` as long as it has a life of the session.
        is_asked: Whether the home was asked to end its life of the session.
        claimer: The node that claimed the session last, and has neither attached it nor given it up.
        waiting: The calls of the claimer that wait for the home.
    """

    node: HostedNode | None
    sid: str
    is_attached: bool = True
    expires_at: float | None = None
    handed: bytes | None = None
    is_asked: bool = False
    claimer: HostedNode | None = None
    waiting: list[int] = field(default_factory=list)

    def answer(self) -> None:
        """Answer the claims that wait."""
        waiting, self.waiting = self.waiting, []
        if self.claimer is not None:
            for call in waiting:
                self.claimer.answer(call, self.handed or b"")


class Homes:
    """The homes of one journal's sessions. It is changed in the order in which the writes are begun.

    While a node claims a session, it does not expire: it stays attached in the store, whatever its home says.

    Args:
        store: The store, as errors name it.
        ask: Asks a node to end its life of a session.
    """

    __slots__ = ("_ask", "_homes", "_keys", "_store")

    def __init__(self, store: str, ask: Callable[[HostedNode, bytes], None]) -> None:
        self._store = store
        self._ask = ask
        self._homes: dict[bytes, _Home] = {}
        self._keys: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._homes)

    def __contains__(self, key: bytes) -> bool:
        return key in self._homes

    def is_settled(self, key: bytes) -> bool:
        """Return whether a node is the home of a session."""
        home = self._homes.get(key)
        return home is not None and home.node is not None

    def of(self, sid: str) -> HostedNode | None:
        """Return the node that is the home of a session."""
        key = self._keys.get(sid)
        return None if key is None else self._homes[key].node

    def key_for(self, node: HostedNode, key: bytes) -> bytes:
        """Return the key under which a node may write for a session: `NOBODY`'s, if another one is its home."""
        home = self._homes.get(key)
        return key if home is None or home.node is node or home.node is None else NOBODY

    def settle_in(self, node: HostedNode, key: bytes, sid: str) -> None:
        """Note that a node has a life of a session from now on."""
        self._homes[key] = _Home(node, sid)
        if sid:
            self._keys[sid] = key

    def begin_attaching(self, node: HostedNode, key: bytes) -> None:
        """Make a node the home of a session that it is about to attach.

        Raises:
            ClaimVoid: Another node has claimed the session later.
        """
        home = self._homes.get(key)
        if home is not None:
            # A node that was slow may attach when the node that claimed the session later has long attached it.
            is_taken = home.node is not None and home.node is not node
            if home.claimer is not node and (home.claimer is not None or is_taken):
                raise self._void()
            if home.node is not None and home.node is not node and home.handed is None and not home.is_asked:
                self._ask(home.node, key)
            home.answer()
        self.settle_in(node, key, "" if home is None else home.sid)

    def attached(self, key: bytes, sid: str) -> None:
        """Note the sid of a session that was attached."""
        home = self._homes.get(key)
        if home is not None and not home.sid:
            home.sid = sid
            self._keys[sid] = key

    def detach(self, node: HostedNode, key: bytes, expires_at: float) -> bytes:
        """Note that a node detaches a session, or gives up its claim; returns the key under which it may do so."""
        home = self._homes.get(key)
        if home is None:
            return key
        if home.node is node:
            home.is_attached, home.expires_at = False, expires_at
        if home.claimer is node:
            self._give_up(key, home)
            return NOBODY if home.is_attached and home.node is not node and home.node is not None else key
        return NOBODY if home.claimer is not None or home.node not in (node, None) else key

    def forget(self, key: bytes) -> None:
        """Forget the home of a session that has ended."""
        home = self._homes.pop(key, None)
        if home is not None:
            self._keys.pop(home.sid, None)
            home.answer()

    def forget_sid(self, sid: str) -> HostedNode | None:
        """Forget the home of a session that has ended; returns it."""
        home = self.of(sid)
        if sid in self._keys:
            self.forget(self._keys[sid])
        return home

    # -- claims ----------------------------------------------------------------------------------------------

    def claim(self, node: HostedNode, key: bytes, call: int) -> bool:
        """Answer a node's call when no other node has a life of a session; an earlier claim of another one fails.

        Returns:
            Whether the session may expire, unless it is attached in the store now.
        """
        home = self._homes.get(key)
        if home is None:
            home = self._homes[key] = _Home(None, "", is_attached=False)
        if home.claimer is not None and home.claimer is not node:
            for earlier in home.waiting:
                home.claimer.fail(earlier, self._void())
            home.waiting = []
        home.claimer = node
        home.waiting.append(call)
        if home.node is None or home.node is node or home.handed is not None:
            # A home to which its client has come back lets go of the session only when it is asked again.
            home.is_asked = home.is_asked and home.node is not node
            home.answer()
        elif not home.is_asked:
            home.is_asked = True
            self._ask(home.node, key)
        return not home.is_attached

    def release(self, node: HostedNode, key: bytes, handed: bytes) -> None:
        """Note that a node has no life of a session any more, if it was asked for that since it attached it."""
        home = self._homes.get(key)
        if home is not None and home.node is node and home.is_asked:
            home.handed = handed
            home.answer()

    def _give_up(self, key: bytes, home: _Home) -> None:
        home.answer()
        home.claimer = None
        if home.node is None:
            self.forget(key)

    def _void(self) -> ClaimVoid:
        return ClaimVoid(self._store, "the session's client has come to another process since")

    # -- nodes that are gone ---------------------------------------------------------------------------------

    def leave(self, node: HostedNode) -> list[tuple[bytes, float | None]]:
        """Forget a node that is gone.

        Returns:
            The keys of the sessions that are to be detached now, and when they end; ``None`` if nobody has said so.
        """
        orphans: list[tuple[bytes, float | None]] = []
        for key, home in [*self._homes.items()]:
            if home.node is node:
                home.node = None
                if home.claimer is not None and home.claimer is not node:
                    home.is_attached = False
                    home.answer()
                    continue
                if home.is_attached or home.claimer is not None:
                    orphans.append((key, home.expires_at))
                self.forget(key)
            elif home.claimer is node:
                home.waiting = []
                if not home.is_attached:
                    orphans.append((key, home.expires_at))
                self._give_up(key, home)
        return orphans
