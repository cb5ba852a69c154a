"""The stored session of a connected socket: its rooms, its data, and how far it certainly got."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from waypost.server.recovery.snapshot import Snapshot
from waypost.storage.base import Journal, OnCommit

__all__ = ["EndedSession", "LiveSession", "session_key"]

logger = logging.getLogger("waypost.recovery")


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that ended because its client did not come back in time.

    Attributes:
        sid: The id its socket had.
        namespace: The namespace it was in.
        data: What was last stored of ``socket.data``.
    """

    sid: str
    namespace: str
    data: dict[str, Any]


class LiveSession:
    """The stored session of a connected socket.

    Args:
        pid: The client's secret.
        journal: The namespace's journal.
        snapshot: What the store has of it.

    Attributes:
        pid: The client's secret.
        key: What the store knows it by.
        progress: The position replayed so far; ``None`` once the socket is live.
        last: The position of the last event that was sent to the client.
    """

    __slots__ = ("_encoded", "_journal", "_marked", "_snapshot", "key", "last", "pid", "progress")

    def __init__(self, pid: str, journal: Journal, snapshot: Snapshot) -> None:
        self.pid = pid
        self.key = session_key(pid)
        self.progress: int | None = 0
        self.last = 0
        self._journal = journal
        self._snapshot = snapshot
        self._encoded = snapshot.encode()
        self._marked: tuple[int, int] | None = None

    def heartbeat_sent(self) -> None:
        """Remember how far the client had been sent everything when the ping went out behind it."""
        # In the middle of a replay, what was sent last is what was replayed last; later events are still held.
        progress = self.progress
        self._marked = (self._journal.top, self.last) if progress is None else (progress, progress)

    def heartbeat_answered(self) -> None:
        """Note that all up to the remembered position has arrived."""
        if self._marked is not None:
            self._journal.prove(self.key, *self._marked)
            self._marked = None

    async def begin(self, sid: str, on_commit: OnCommit) -> None:
        """Store it; ``on_commit`` is called with the position it starts at."""
        self.progress = None
        await self._journal.open_session(self.key, sid, self._encoded, on_commit)

    async def join(self, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let the session join rooms from here on."""
        await self._journal.join(self.key, rooms, on_commit)

    async def leave(self, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let the session leave rooms from here on."""
        await self._journal.leave(self.key, rooms, on_commit)

    def refresh(self, stored: bytes) -> None:
        """Note what the store has of it by now."""
        self._encoded = stored

    async def save(self, data: dict[str, Any]) -> None:
        """Store the application's data if it has changed."""
        snapshot = replace(self._snapshot, data=data)
        try:
            encoded = snapshot.encode()
        except TypeError as problem:
            logger.error("socket.data is not kept for recovery: %s", problem)
            return
        if encoded != self._encoded:
            self._encoded = encoded
            await self._journal.save_session(self.key, encoded)


def session_key(pid: str) -> bytes:
    """Return what the store knows a session by: a digest, so that a leaked store gives nobody's pid away."""
    return hashlib.sha256(pid.encode("utf-8", "surrogatepass")).digest()
