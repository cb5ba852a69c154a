"""What only the store in memory must show: its work is done on the event loop, so it takes time from everybody."""

from __future__ import annotations

import pytest

from waypost.storage.memory.store import MemoryStore

pytestmark = pytest.mark.asyncio

_KEY = b"key"


class _Room(str):
    """A name that counts how often it is looked at."""

    looks = 0

    def __hash__(self) -> int:
        type(self).looks += 1
        return super().__hash__()


async def test_a_change_of_one_room_looks_at_no_other() -> None:
    store = MemoryStore()
    await store.open()
    journal = await store.journal("/")
    await journal.open_session(_KEY, "sid", b"", _ignore)
    await journal.join(_KEY, [_Room(number) for number in range(1_000)], _ignore)
    await journal.append(b"entry", _ignore)
    before = _Room.looks
    await journal.join(_KEY, ["another"], _ignore)
    await journal.leave(_KEY, ["another"], _ignore)
    assert _Room.looks == before
    await store.close()


def _ignore(_position: int) -> None:
    pass
