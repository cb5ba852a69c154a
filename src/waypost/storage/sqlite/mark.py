"""The notes that the owner of a store keeps beside its file, to recognise an older copy at the next opening.

``<path>-owner`` holds the count of openings and closings, as version 0.1 wrote it, and behind it the mark: how far
the file had come. The mark is written after the commit, so it is never ahead of its own file.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from waypost.owning import OwnerFile

__all__ = ["Beside", "Mark", "peek_mark"]

_DIGITS = 20
_COUNT_BYTES = _DIGITS + 1
# Fixed, so that a shorter mark leaves nothing of a longer one behind it.
_MARK_BYTES = 200
_NONE = "-"


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a file had come.

    Attributes:
        fence: The name of the opening that wrote to the file; ``""`` before the first one that left a mark.
        next_fence: The name of the opening that was about to begin; ``""`` for none.
        position: The mark in the file at the last commit that moved it.
        is_sealed: Whether no later commit may have been written.
        is_rooted: Whether the file itself, without its log, has this fence.
        base: The mark in the file itself, without its log, was at least this.
        first_schema: The version of the tables that the file itself had at least.
        schema: The version of the tables at the last mark.
        salt: The salt in the header of the log; ``None`` before the first one was seen.
    """

    fence: str
    next_fence: str = ""
    position: int = 0
    is_sealed: bool = True
    is_rooted: bool = False
    base: int = 0
    first_schema: int = 0
    schema: int = 0
    salt: int | None = None

    def encode(self) -> bytes:
        """Return the mark as a line of text with a checksum."""
        fields = [
            self.fence or _NONE,
            self.next_fence or _NONE,
            self.position,
            int(self.is_sealed),
            int(self.is_rooted),
            self.base,
            self.first_schema,
            self.schema,
            _NONE if self.salt is None else self.salt,
        ]
        text = " ".join(map(str, fields))
        return f"{zlib.crc32(text.encode()):08x} {text}".ljust(_MARK_BYTES - 1).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Mark | None:
        """Return the mark in a line; ``None`` if there is none, or a damaged one."""
        checksum, _, text = line.decode("ascii", "replace").strip().partition(" ")
        fields = text.split(" ")
        if checksum != f"{zlib.crc32(text.encode()):08x}" or len(fields) != len(cls.__dataclass_fields__):
            return None
        fence, next_fence, position, sealed, rooted, base, first_schema, schema, salt = fields
        return cls(
            "" if fence == _NONE else fence,
            "" if next_fence == _NONE else next_fence,
            int(position),
            sealed == "1",
            rooted == "1",
            int(base),
            int(first_schema),
            int(schema),
            None if salt == _NONE else int(salt),
        )


class Beside:
    """The count and the mark beside a store's file, for its owner.

    Args:
        owner: The owner's file.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: OwnerFile) -> None:
        self._owner = owner

    def read(self) -> tuple[int, Mark | None]:
        """Return the count, 0 without one, and the mark."""
        return _parse(self._owner.read(_COUNT_BYTES + _MARK_BYTES))

    def write_count(self, counted: int) -> None:
        """Write the count, after it is in the file."""
        self._owner.write(f"{counted:0{_DIGITS}}\n".encode(), flush=True)

    def write(self, mark: Mark, *, flush: bool = False) -> None:
        """Write the mark.

        Args:
            mark: The mark.
            flush: Whether it must survive a power loss. An older mark is never wrong, only less sharp.
        """
        self._owner.write(mark.encode(), _COUNT_BYTES, flush=flush)


def peek_mark(path: Path) -> Mark | None:
    """Return the mark beside a file that somebody else may own; ``None`` without one."""
    return _parse(OwnerFile.peek(path, _COUNT_BYTES + _MARK_BYTES))[1]


def _parse(content: bytes) -> tuple[int, Mark | None]:
    noted = content[:_DIGITS]
    return int(noted) if noted.isdigit() else 0, Mark.parse(content[_COUNT_BYTES:])
