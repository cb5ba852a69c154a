"""Messages that came without an id get one that no other has, of this server or another."""

from __future__ import annotations

from waypost.server.basics.environment import new_id
from waypost.server.queues.message_ids import MessageIds


def test_no_two_are_the_same() -> None:
    servers = [MessageIds(new_id) for _ in range(3)]
    ids = [make() for make in servers for _ in range(1000)]
    assert len(set(ids)) == 3000


def test_chance_is_asked_once_and_not_before_it_is_needed() -> None:
    asked: list[str] = []

    def new() -> str:
        asked.append("")
        return "beginning"

    make = MessageIds(new)
    assert not asked
    assert [make(), make()] == ["beginning.1", "beginning.2"]
    assert len(asked) == 1
