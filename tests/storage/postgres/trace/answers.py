"""Answers to clients, of the pure engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from waypost.storage.answer_base import ANSWER_OVERHEAD_BYTES

__all__ = ["Answers", "Kept"]

_ASKED_AT_ONCE: Final = 64

Key = tuple[bytes, int, bytes]


class Kept(NamedTuple):
    """An answer: when it came, whom it is counted for, whether it was given up, what it is, and its sum."""

    at: float
    account: bytes
    is_given_up: bool
    record: bytes
    sum: bytes

    @property
    def size(self) -> int:
        """The bytes that it counts for."""
        return ANSWER_OVERHEAD_BYTES + len(self.record)


@dataclass(slots=True)
class Answers:
    """All answers.

    Attributes:
        kept: The answers, by client, number and message.
        written: The newest incarnation of each node that has written answers.
    """

    kept: dict[Key, Kept] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Answers:
        """Return answers that go their own way."""
        return Answers({**self.kept}, {**self.written})

    def keep(
        self,
        rows: Sequence[tuple[bytes, int, bytes, bytes, bytes, bytes, int]],
        limits: tuple[int, int, int],
        now: float,
    ) -> None:
        """Store answers, and remove those that clients have, or that are too many.

        Args:
            rows: Client, number, message, account, record, sum, and up to which number the client has its answers.
            limits: The most answers of a client, the most bytes of an account, and of all.
            now: The time.
        """
        most, account_bytes, total_bytes = limits
        for client, sequence, message, account, record, kept_sum, _ in rows:
            self.kept[client, sequence, message] = Kept(now, account, False, record, kept_sum)
        for client, *_, settled in rows:
            self.kept = {key: one for key, one in self.kept.items() if key[0] != client or key[1] > settled}
        for client in {row[0] for row in rows}:
            for key in sorted(key for key in self.kept if key[0] == client)[:-most]:
                del self.kept[key]
        for account in {row[3] for row in rows} - {b""}:
            while (excess := self._bytes(account) - account_bytes) > 0 and self._free(account, excess):
                pass
        assert sum(one.size for one in self.kept.values()) <= total_bytes, "a walk never has so many answers"

    def find(self, keys: Sequence[Key]) -> list[Any]:
        """Return the answers to messages, each with the number of the question."""
        found = [(number, self.kept.get(key)) for number, key in enumerate(keys, 1)]
        return [(number, one.record, one.is_given_up, one.sum) for number, one in found if one is not None]

    def trim(self, before: float) -> int:
        """Remove what is older than a time; returns how many."""
        old = [key for key, one in self.kept.items() if one.at < before]
        for key in old:
            del self.kept[key]
        return len(old)

    def _bytes(self, account: bytes) -> int:
        return sum(one.size for one in self.kept.values() if one.account == account)

    def _free(self, account: bytes, excess: int) -> int:
        own = [(one.is_given_up, one.at, key[1], key) for key, one in self.kept.items() if one.account == account]
        freed = 0
        for is_given_up, _, _, key in sorted(own)[:_ASKED_AT_ONCE]:
            if freed >= excess:
                break
            if is_given_up:
                freed += ANSWER_OVERHEAD_BYTES
                del self.kept[key]
            else:
                freed += len(self.kept[key].record)
                self.kept[key] = self.kept[key]._replace(is_given_up=True, record=b"")
        return freed
