"""Answers in memory; see `waypost.storage.answer_base`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from waypost.storage.answer_base import (
    ANSWER_OVERHEAD_BYTES,
    MAX_ANSWERS_PER_CLIENT,
    UNCOUNTED,
    Answer,
    AnswerGivenUp,
    AnswerLimits,
)
from waypost.storage.clock import StoreClock
from waypost.storage.memory.queue import Opening

__all__ = ["MemoryAnswers"]

# The message's number and id.
_Message: TypeAlias = tuple[int, str]


@dataclass(slots=True)
class _Kept:
    at: float
    account: str
    record: bytes | None

    @property
    def size(self) -> int:
        return ANSWER_OVERHEAD_BYTES + len(self.record or b"")


@dataclass(slots=True)
class _Account:
    """The answers of one account, oldest first. The dicts stand for ordered sets."""

    size_bytes: int = 0
    kept: dict[tuple[bytes, _Message], None] = field(default_factory=dict)
    given_up: dict[tuple[bytes, _Message], None] = field(default_factory=dict)


class MemoryAnswers:
    """All answers of one opening of a `MemoryStore`.

    Args:
        opening: The opening.
        ttl_s: For how long an answer is kept, in seconds.
        limits: How many bytes of answers are kept.
        clock: The clock that ages are measured on.
    """

    __slots__ = ("_accounts", "_clients", "_clock", "_limits", "_opening", "_size_bytes", "_ttl_s")

    def __init__(self, opening: Opening, ttl_s: float, limits: AnswerLimits, clock: StoreClock) -> None:
        self._opening = opening
        self._ttl_s = ttl_s
        self._limits = limits
        self._clock = clock
        self._clients: dict[bytes, dict[_Message, _Kept]] = {}
        self._accounts: dict[str, _Account] = {}
        self._size_bytes = 0

    async def find(self, client: bytes, sequence: int, message: str) -> bytes | None:
        """Return the answer to a client's message."""
        self._opening.check()
        found = self._clients.get(client, {}).get((sequence, message))
        if found is not None and found.record is None:
            raise AnswerGivenUp(message)
        return None if found is None else found.record

    async def keep(self, answer: Answer, settled: int) -> None:
        """Store an answer, and remove those that the client has confirmed."""
        self._opening.check()
        client = answer.client
        self._remove(client, (answer.sequence, answer.message))
        self._add(client, (answer.sequence, answer.message), _Kept(self._clock.now(), answer.account, answer.record))
        messages = sorted(self._clients[client])
        latest = {*[message for message in messages if message[0] > settled][-MAX_ANSWERS_PER_CLIENT:]}
        for message in messages:
            if message not in latest:
                self._remove(client, message)
        if answer.account != UNCOUNTED and answer.account in self._accounts:
            self._free(answer.account, self._accounts[answer.account].size_bytes - self._limits.account_bytes)
        while self._size_bytes > self._limits.total_bytes:
            largest = max(self._accounts, key=lambda name: self._accounts[name].size_bytes)
            self._free(largest, self._size_bytes - self._limits.total_bytes)

    def trim(self) -> None:
        """Remove answers that are too old."""
        oldest = self._clock.now() - self._ttl_s
        for client, messages in list(self._clients.items()):
            for message in [message for message, kept in messages.items() if kept.at < oldest]:
                self._remove(client, message)

    def _free(self, name: str, excess: int) -> None:
        """Give up the oldest answers of an account, then forget the oldest that were given up."""
        account = self._accounts[name]
        while excess > 0 and account.kept:
            client, message = next(iter(account.kept))
            kept = self._clients[client][message]
            excess -= len(kept.record or b"")
            self._remove(client, message)
            self._add(client, message, _Kept(kept.at, name, None))
            account = self._accounts[name]
        while excess > 0 and account.given_up:
            excess -= ANSWER_OVERHEAD_BYTES
            self._remove(*next(iter(account.given_up)))

    def _add(self, client: bytes, message: _Message, kept: _Kept) -> None:
        self._clients.setdefault(client, {})[message] = kept
        account = self._accounts.setdefault(kept.account, _Account())
        (account.given_up if kept.record is None else account.kept)[client, message] = None
        account.size_bytes += kept.size
        self._size_bytes += kept.size

    def _remove(self, client: bytes, message: _Message) -> None:
        messages = self._clients.get(client, {})
        kept = messages.pop(message, None)
        if kept is None:
            return
        if not messages:
            del self._clients[client]
        account = self._accounts[kept.account]
        del (account.given_up if kept.record is None else account.kept)[client, message]
        account.size_bytes -= kept.size
        self._size_bytes -= kept.size
        if not account.size_bytes:
            del self._accounts[kept.account]
