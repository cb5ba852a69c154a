"""Requests with an id: a second one is a repeat if it is the same, and refused if it is another one.

Queues and journals remember ids themselves, so that a repeat changes nothing. What is kept here is the digest of the
request to which an id belongs, beside the answers to clients.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import msgspec

from waypost.errors import StorageError
from waypost.logs import get_logger
from waypost.operations.http.problems import Problem
from waypost.storage.answer_base import Answer, AnswerGivenUp
from waypost.storage.base import Store

__all__ = ["Repeats", "Subject"]

logger = get_logger("waypost.operations")

_ACCOUNT = "http api"


class _Noted(msgspec.Struct, array_like=True, frozen=True):
    """The request of an id.

    Attributes:
        digest: Its digest.
        until: The store's time until which the id is remembered, in seconds.
    """

    digest: bytes
    until: float


class Subject(msgspec.Struct, array_like=True, frozen=True):
    """The place of an id.

    Attributes:
        kind: What has ids there: ``"emit"`` or ``"publish"``.
        name: The namespace, or the queue.
        id: The id.
    """

    kind: str
    name: str
    id: str

    def digest(self) -> bytes:
        """Return the key under which the store keeps it."""
        return sha256(b"http api" + msgspec.json.encode(self)).digest()


class Repeats:
    """The requests with ids that were done.

    Args:
        store: Returns the store.
    """

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store

    async def check(self, subject: Subject, body: msgspec.Struct) -> bool:
        """Return whether a request was done, and its id is remembered. May be cancelled.

        Args:
            subject: The place of its id.
            body: The request, without the id.

        Raises:
            Problem: The id belongs to another request.
            StorageError: The store did not answer.
        """
        noted = await self._find(subject)
        if noted is None or noted.until <= self._store().clock.now():
            return False
        if noted.digest != _digest(body):
            detail = (
                f"expected a new id: {subject.id!r} belongs to an earlier request, and that one had another body; "
                "send the same body again, or take another id"
            )
            raise Problem(422, "id_reused", detail)
        return True

    async def note(self, subject: Subject, body: msgspec.Struct, window_s: float) -> None:
        """Note that a request was done.

        If the store does not take the note, that is logged; a repeat still changes nothing.

        Args:
            subject: The place of its id.
            body: The request, without the id.
            window_s: Seconds for which the id is remembered.
        """
        store = self._store()
        noted = _Noted(_digest(body), store.clock.now() + window_s)
        answer = Answer(subject.digest(), 1, subject.kind, msgspec.msgpack.encode(noted), _ACCOUNT)
        try:
            await store.answers().keep(answer, 0)
        except StorageError as problem:
            logger.warning("another request with the id of this one would not be noticed: %s", problem)

    async def _find(self, subject: Subject) -> _Noted | None:
        try:
            record = await self._store().answers().find(subject.digest(), 1, subject.kind)
        except AnswerGivenUp:
            return None
        return None if record is None else msgspec.msgpack.decode(record, type=_Noted)


def _digest(body: msgspec.Struct) -> bytes:
    return sha256(msgspec.json.encode(body, order="deterministic")).digest()
