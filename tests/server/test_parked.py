"""What is kept of clients that are away: only as long as somebody waits for it."""

from __future__ import annotations

from waypost.protocol.socketio import encode_event
from waypost.server.emitting.acks import AtCut, PendingAcks
from waypost.server.recovery import parked
from waypost.server.recovery.parked import Parked


def waiting() -> tuple[PendingAcks, int]:
    acks = PendingAcks(1)
    return acks, acks.expect_for(lambda _: None, encode_event("/", "x", []), AtCut.RESENDS)


def test_what_was_answered_meanwhile_is_not_kept_for_ever() -> None:
    kept = Parked()
    for number in range(20 * parked._MOST_ANSWERED):
        acks, ack_id = waiting()
        kept.put(str(number).encode(), str(number), acks)
        acks.forget(ack_id)
    assert len(kept._acks) == len(kept._keys) <= parked._MOST_ANSWERED


def test_what_somebody_waits_for_is_kept_and_not_looked_through_each_time() -> None:
    kept = Parked()
    looks = 0

    class Counted(PendingAcks):
        def __len__(self) -> int:
            nonlocal looks
            looks += 1
            return super().__len__()

    number = 20 * parked._MOST_ANSWERED
    for one in range(number):
        acks = Counted(1)
        acks.expect_for(lambda _: None, encode_event("/", "x", []), AtCut.RESENDS)
        kept.put(str(one).encode(), str(one), acks)
    assert all(kept.get(str(one).encode()) is not None for one in range(number))
    assert looks < 4 * number
