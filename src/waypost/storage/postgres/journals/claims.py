"""The claims of this node that wait until another node has let a session go."""

from __future__ import annotations

import asyncio

import msgspec

from waypost.errors import StorageError, StoreClosed
from waypost.storage.following import ClaimVoid
from waypost.storage.postgres.journals.log import Done
from waypost.storage.postgres.journals.operations import Kind, Ordered, operation

__all__ = ["Claims", "claim_is_void"]


class _Claimed(msgspec.Struct):
    """The result of a claim. It has no values for a session that is not stored.

    Attributes:
        waits: Whether another node has a life of the session.
        handed: What was handed over with it otherwise.
    """

    waits: bool = False
    handed: str = ""


class Claims:
    """The claims for sessions of one journal.

    Args:
        journal: The journal.
    """

    __slots__ = ("_journal", "_waiting")

    def __init__(self, journal: Ordered) -> None:
        self._journal = journal
        self._waiting: dict[bytes, list[asyncio.Future[bytes]]] = {}

    async def claim(self, key: bytes) -> bytes:
        """Wait until no other node has a life of a session; returns what was handed over. May be cancelled.

        Raises:
            ClaimVoid: A later claim for the session has come in the meantime.
            StorageError: The store did not take it.
        """
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def claimed(done: Done) -> None:
            result = msgspec.convert(done.result, _Claimed)
            if result.waits:
                self._waiting.setdefault(key, []).append(answer)
            elif not answer.done():
                answer.set_result(bytes.fromhex(result.handed))

        await self._journal.write("claim a session", operation(Kind.CLAIM, key), claimed)
        return await answer

    def answer(self, key: bytes, handed: bytes) -> None:
        """Let the claims for a session go on."""
        for one in self._waiting.pop(key, ()):
            if not one.done():
                one.set_result(handed)

    def void(self, key: bytes) -> None:
        """Fail the claims for a session: another node has claimed it since."""
        self._fail(key, claim_is_void(self._journal.engine.name))

    def close(self) -> None:
        """Fail all claims: the store is closed."""
        for key in [*self._waiting]:
            self._fail(key, StoreClosed(self._journal.engine.name))

    def _fail(self, key: bytes, error: StorageError) -> None:
        for one in self._waiting.pop(key, ()):
            if not one.done():
                one.set_exception(error)


def claim_is_void(store: str) -> ClaimVoid:
    """Return the error of a claim after which another one has come."""
    return ClaimVoid(store, "the session's client has come to another process since")
