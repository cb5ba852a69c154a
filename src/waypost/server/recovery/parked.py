"""The unanswered events of sessions whose clients are not here."""

from __future__ import annotations

from waypost.server.emitting.acks import PendingAcks

__all__ = ["Parked"]

_MOST_ANSWERED = 100
"""From so many sessions on, those that owe nothing any more are looked for."""


class Parked:
    """Pending acknowledgements, found by their session's key and by its socket's id."""

    __slots__ = ("_acks", "_drop_at", "_keys")

    def __init__(self) -> None:
        self._drop_at = _MOST_ANSWERED
        self._acks: dict[bytes, tuple[str, PendingAcks]] = {}
        self._keys: dict[str, bytes] = {}

    def put(self, key: bytes, sid: str, acks: PendingAcks) -> None:
        """Keep what a client has not acknowledged; nothing if there is nothing."""
        if not len(acks):
            return
        if len(self._acks) >= self._drop_at:
            self._drop_answered()
        self._acks[key] = sid, acks
        self._keys[sid] = key

    def get(self, key: bytes) -> PendingAcks | None:
        """Return what is kept for a session."""
        return self._acks.get(key, (None, None))[1]

    def take(self, key: bytes) -> PendingAcks | None:
        """Return what is kept for a session, and keep it no more."""
        return self.take_with_sid(key)[1]

    def take_with_sid(self, key: bytes) -> tuple[str, PendingAcks | None]:
        """Return the id of a session's socket, and what is kept for it; keep it no more."""
        sid, acks = self._acks.pop(key, ("", None))
        self._keys.pop(sid, None)
        return sid, acks

    def take_of(self, sid: str) -> PendingAcks | None:
        """Return what is kept for the session of a socket, and keep it no more."""
        key = self._keys.get(sid)
        return None if key is None else self.take(key)

    def _drop_answered(self) -> None:
        """Keep nothing more for sessions that owe no acknowledgement any more."""
        for key, (_, acks) in list(self._acks.items()):
            if not len(acks):
                self.take(key)
        self._drop_at = max(_MOST_ANSWERED, 2 * len(self._acks))

    def close(self) -> None:
        """End all waits, and keep nothing more."""
        kept, self._acks, self._keys = self._acks, {}, {}
        for _, acks in kept.values():
            acks.close()
