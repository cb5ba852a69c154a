"""A message whose bytes have changed in the store's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import waypost
from tests.server.queues.test_workers import settled
from tests.support.waiting import until_async

MARK = "the message that is to be damaged"


async def test_a_damaged_message_is_a_dead_letter_at_once_and_holds_up_no_others(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    handled: list[Any] = []

    def make() -> waypost.Server:
        return waypost.Server(store=path, drain_s=0)

    io = make()
    await io.start()
    for job in ("first", MARK, "third"):
        await io.queue("jobs").emit("job", job)
    await io.close()
    path.write_bytes(path.read_bytes().replace(MARK.encode(), MARK.upper().encode()))

    io = make()

    @io.consumer("jobs")
    async def handle(message: waypost.Message, job: Any) -> None:
        handled.append(job)

    await io.start()
    [letter] = await until_async(io.queue("jobs").dead_letters, bool, "it is a dead letter")
    # What it says is not shown as if it had been sent so.
    assert (letter.offset, letter.event, list(letter.args), letter.failures) == (2, "", [], 0)
    assert letter.reason.startswith("damaged")
    await settled(io)
    assert handled == ["first", "third"]
    await io.close()


async def test_a_damaged_message_is_shown_as_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    io = waypost.Server(store=path, drain_s=0)
    await io.start()
    await io.queue("jobs").emit("job", MARK)
    await io.close()
    path.write_bytes(path.read_bytes().replace(MARK.encode(), MARK.upper().encode()))
    io = waypost.Server(store=path, drain_s=0)
    await io.start()
    [message] = await io.queue("jobs").peek()
    assert (message.offset, message.event, list(message.args)) == (1, "", [])
    await io.close()
