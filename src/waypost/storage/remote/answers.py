"""The stored answers to clients, over a link."""

from __future__ import annotations

from waypost.storage.answer_base import Answer
from waypost.storage.remote.connection import Connection
from waypost.storage.wire.calls import ANSWERS

__all__ = ["RemoteAnswers"]

_TARGET = ""


class RemoteAnswers:
    """The stored answers of a `RemoteStore`; see `waypost.storage.answer_base.Answers`.

    Args:
        connection: The way to the host.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def find(self, client: bytes, sequence: int, message: str) -> bytes | None:
        """Return the answer to a client's message; ``None`` if the store has none."""
        arguments = client, sequence, message
        found: bytes | None = await self._connection.plain(ANSWERS["find"], _TARGET, *arguments, changes=False)
        return found

    async def keep(self, answer: Answer, settled: int) -> None:
        """Store an answer, and remove those to all messages that the client has settled."""
        await self._connection.plain(ANSWERS["keep"], _TARGET, answer, settled, changes=True)
