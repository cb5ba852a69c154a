"""The stored session of a connected socket: rooms, data, and the position that the client has certainly reached."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.server.recovery.snapshot import Snapshot
from waypost.storage.base import Journal, OnCommit

__all__ = ["EndedSession", "LiveSession", "session_key"]

logger = get_logger("waypost.recovery")


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that ended because its client did not come back in time.

    Attributes:
        socket_id: The id of its socket.
        namespace: Its namespace.
        data: The last stored state of ``socket.data``.
    """

    socket_id: str
    namespace: str
    data: dict[str, Any]


class LiveSession:
    """The stored session of a connected socket.

    Args:
        pid: The client's private id, a secret.
        journal: The namespace's journal.
        snapshot: The session's state in the store.

    Attributes:
        pid: The client's private id, a secret.
        key: The session's key in the store.
        progress: The position that the replay has reached; ``None`` once the socket is live.
        last: The position of the last event that was sent to the client.
        arrived: The position up to which all events have arrived on this connection.
        stuck_at: The position of an event beyond which the client did not get; see `Journal.note_stuck`.
        stuck_times: On how many connections.
    """

    __slots__ = (
        "_encoded",
        "_journal",
        "_marked",
        "_snapshot",
        "arrived",
        "key",
        "last",
        "pid",
        "progress",
        "stuck_at",
        "stuck_times",
    )

    def __init__(self, pid: str, journal: Journal, snapshot: Snapshot) -> None:
        self.pid = pid
        self.key = session_key(pid)
        self.progress: int | None = 0
        self.last = 0
        self.arrived = 0
        self.stuck_at = self.stuck_times = 0
        self._journal = journal
        self._snapshot = snapshot
        self._encoded = snapshot.encode()
        self._marked: tuple[int, int] | None = None

    def heartbeat_sent(self) -> None:
        """Remember the position of the last event before the ping."""
        # During a replay, the last event sent is the last one replayed; later events are still held back.
        progress = self.progress
        self._marked = (self._journal.top, self.last) if progress is None else (progress, progress)

    def heartbeat_answered(self) -> None:
        """Note that all events up to the remembered position have arrived."""
        if self._marked is not None:
            # Without a store nothing is lost by it: a client that comes back says itself how far it is.
            with suppress(StorageError):
                self._journal.prove(self.key, *self._marked)
            self.arrived = self._marked[0]
            self._marked = None

    async def begin(self, sid: str, on_commit: OnCommit) -> None:
        """Store the session.

        Args:
            sid: The socket's id.
            on_commit: Called with the position at which the session starts.

        Raises:
            StorageError: The store did not take the session.
        """
        self.progress = None
        await self._journal.open_session(self.key, sid, self._encoded, on_commit)

    async def join(self, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Join rooms at this point of the order of writes."""
        await self._journal.join(self.key, rooms, on_commit)

    async def leave(self, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Leave rooms at this point of the order of writes."""
        await self._journal.leave(self.key, rooms, on_commit)

    def refresh(self, stored: bytes) -> None:
        """Note the session's current state in the store."""
        self._encoded = stored

    async def save(self, data: dict[str, Any], sid: str) -> None:
        """Store the application's data if it has changed. Data that can't be encoded is logged, not stored.

        Args:
            data: The data.
            sid: The socket's id, for the log.
        """
        snapshot = replace(self._snapshot, data=data)
        try:
            encoded = snapshot.encode()
        except TypeError as problem:
            logger.error(
                "socket.data of %s is not kept for recovery: %s",
                sid,
                problem,
                extra=fields(sid=sid, namespace=self._journal.name),
            )
            return
        if encoded != self._encoded:
            self._encoded = encoded
            await self._journal.save_session(self.key, encoded)


def session_key(pid: str) -> bytes:
    """Return a session's key in the store: a digest, so that a leaked store reveals no private id."""
    return hashlib.sha256(pid.encode("utf-8", "surrogatepass")).digest()
