"""The stored session of a connected socket: its rooms, its data, and how far it certainly got."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson

from waypost.server.handshake import Handshake
from waypost.storage.base import Journal, OnCommit

__all__ = ["EndedSession", "LiveSession", "read_snapshot", "session_key", "write_snapshot"]

logger = logging.getLogger("waypost.recovery")

_HANDSHAKE_FIELDS = ("headers", "query", "auth", "url", "address", "secure", "cross_origin", "time")


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
        handshake: What the store keeps of the client's handshake; ``None`` to keep none.
        snapshot: What the store has now.

    Attributes:
        pid: The client's secret.
        key: What the store knows it by.
        progress: The position replayed so far; ``None`` once the socket is live.
    """

    __slots__ = ("_handshake", "_idle", "_journal", "_marked", "_snapshot", "_writes", "key", "pid", "progress")

    def __init__(self, pid: str, journal: Journal, handshake: Handshake | None, snapshot: bytes) -> None:
        self.pid = pid
        self.key = session_key(pid)
        self.progress: int | None = 0
        self._journal = journal
        self._handshake = handshake
        self._snapshot = snapshot
        self._marked: int | None = None
        self._writes = 0
        self._idle = asyncio.Event()

    def heartbeat_sent(self) -> None:
        """Remember how far the client had been sent everything when the ping went out behind it."""
        self._marked = self._journal.top if self.progress is None else self.progress

    def heartbeat_answered(self) -> None:
        """Note that all up to the remembered position has arrived."""
        if self._marked is not None:
            self._journal.prove(self.key, self._marked)
            self._marked = None

    async def join(self, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let the session join rooms from here on."""
        await self._counted(self._journal.join(self.key, rooms, on_commit))

    async def leave(self, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let the session leave rooms from here on."""
        await self._counted(self._journal.leave(self.key, rooms, on_commit))

    async def save(self, data: dict[str, Any]) -> None:
        """Store the application's data if it has changed."""
        try:
            snapshot = write_snapshot(data, self._handshake)
        except TypeError as problem:
            logger.error("socket.data is not kept for recovery: %s", problem)
            return
        if snapshot != self._snapshot:
            self._snapshot = snapshot
            await self._journal.save_session(self.key, snapshot)

    async def settled(self) -> None:
        """Wait until no change of rooms is under way."""
        while self._writes:
            self._idle.clear()
            await self._idle.wait()

    async def _counted(self, write: Coroutine[Any, Any, None]) -> None:
        self._writes += 1
        writing = asyncio.ensure_future(write)
        writing.add_done_callback(self._written)
        # Whoever waits may be cancelled; the write goes on, and `settled` has to know when it ends.
        await asyncio.shield(writing)

    def _written(self, _writing: asyncio.Future[None]) -> None:
        self._writes -= 1
        self._idle.set()


def session_key(pid: str) -> bytes:
    """Return what the store knows a session by: a digest, so that a leaked store gives nobody's pid away."""
    return hashlib.sha256(pid.encode("utf-8", "surrogatepass")).digest()


def write_snapshot(data: dict[str, Any], handshake: Handshake | None) -> bytes:
    """Encode what the store keeps of a socket.

    Args:
        data: The application's data.
        handshake: The client's handshake, or ``None`` to keep none.

    Raises:
        TypeError: JSON can't carry it.
    """
    kept = handshake and {name: getattr(handshake, name) for name in _HANDSHAKE_FIELDS}
    try:
        return orjson.dumps([data, kept], option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as problem:
        raise TypeError(str(problem)) from None


def read_snapshot(snapshot: bytes) -> tuple[dict[str, Any], Handshake | None]:
    """Read what `write_snapshot` made."""
    data, kept = orjson.loads(snapshot)
    return data, Handshake(**kept) if kept else None
