"""What must hold for each delivery of a message, and for what became of it: judged by the log of what happened.

The disk's writes are repeated on a queue made of plain lists (tests/storage/queue_model.py), and each thing the
server sends or writes is held against it, at the moment when it did. What the server knows comes from what it was
sent: an ack is one if it arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.sim.oracle_attempts import Attempts, Handed, is_rejection
from tests.sim.oracle_probing import Probes
from tests.sim.queue_log import Happening, Sent, epoch_of
from tests.sim.world import World
from tests.storage.queue_model import QueueModel
from waypost.protocol.extension import DeliveryMark
from waypost.storage.queue_records import ConsumerRow, DeadLetterFilter, Enqueued, MessageRow, Redriven

__all__ = ["check_deliveries"]

_CLOCK_S = 1e-3
_EVERYTHING = DeadLetterFilter()


def check_deliveries(world: World) -> None:
    """Go through all that happened to the queue of a history that is about one."""
    judge = _Judge(world)
    for happening in world.disk.queues.all:
        judge.see_clock(happening)
        getattr(judge, f"see_{happening.kind}")(happening)
    judge.see_the_end()


@dataclass(slots=True)
class _Pause:
    until: float = 0.0
    noticed: float = 0.0


class _Judge:
    def __init__(self, world: World) -> None:
        plan = world.circumstances.queue
        assert plan is not None
        self._world = world
        self._order = world.circumstances.order
        self._model = QueueModel(world.disk.store._queue_limits)
        self._epochs: dict[str, int] = {}
        self._pauses: dict[str, _Pause] = {}
        self._handed: dict[Sent, Handed] = {}
        self._notices: dict[Sent, tuple[str, dict[str, Any]]] = {}
        # Messages that were acknowledged or given up, and that is not on the disk yet: consumer, epoch, position.
        self._done: set[tuple[str, int, int]] = set()
        # By the consumer and the last position that is told of: two clients may acknowledge in any order.
        self._told: dict[tuple[str, int], dict[str, Any]] = {}
        self._stored: set[str] = set()
        self._attempts = Attempts(world, plan)
        self._probes = Probes(self._attempts.lease_s)
        one = world.circumstances
        # What the store's clock shows, when that was last looked at, and whether it was wrong.
        self._clock, self._clock_at, self._clock_is_wrong = world.wall_time_at(0.0), 0.0, False
        # How long the server may take to hear of what was stored.
        self._lag_s = one.commit_s + one.report_s + 0.001
        self._grace_s = 1.0 + 20 * (one.commit_s + one.report_s)

    def see_clock(self, one: Happening) -> None:
        """Check that the store's clock went on as time does, whatever the wall clock said since the opening."""
        expected = self._clock + one.time - self._clock_at
        if one.kind == "opened":
            expected = max(expected, one.wall)
        self._clock, self._clock_at = expected, one.time
        if abs(one.stored - expected) > _CLOCK_S and not self._clock_is_wrong:
            self._clock_is_wrong = True
            self._wrong(one, f"the store's clock is off by {one.stored - expected:.3f} s")
        for pause in self._pauses.values():
            if one.wall >= pause.until:
                # It is over, although the wall clock may be set back.
                pause.until = 0.0

    def _wrong(self, happening: Happening, problem: str) -> None:
        self._world.wrong(f"at {happening.time:.4f} consumer {happening.consumer!r}: {problem}")

    # -- what reached the disk -------------------------------------------------------------------------------

    def see_enqueue(self, one: Happening) -> None:
        messages, window_s, enqueued = one.what
        assert isinstance(enqueued, Enqueued)
        accepted = self._model.enqueue(list(messages), window_s, one.stored)
        self._stored |= {message.id for message in messages}
        if accepted is None or tuple(accepted) != enqueued.accepted:
            self._wrong(one, f"the disk took {enqueued.accepted}, it should have taken {accepted}")

    def see_opened(self, one: Happening) -> None:
        """See `see_clock`."""

    def see_set(self, one: Happening) -> None:
        """See `see_clock`."""

    def see_released(self, one: Happening) -> None:
        self._model.release(one.stored)

    def see_trimmed(self, one: Happening) -> None:
        self._model.trim(one.stored)

    def see_consumer(self, one: Happening) -> None:
        start, info = one.what
        self._model.add_consumer(one.consumer, start, one.stored)
        self._epochs[one.consumer] = info.epoch

    def see_seek(self, one: Happening) -> None:
        place, info = one.what
        if info.epoch == self._epochs[one.consumer]:
            self._wrong(one, "was moved, and its epoch is the same")
        self._model.seek(one.consumer, place)
        self._epochs[one.consumer] = info.epoch
        self._told = {place: notice for place, notice in self._told.items() if place[0] != one.consumer}
        self._probes.forget()

    def see_pause(self, one: Happening) -> None:
        until, _ = one.what
        self._pauses[one.consumer] = _Pause(until, one.time + self._grace_s)

    def see_told(self, one: Happening) -> None:
        upto, _ = one.what
        consumer, told = self._model.consumers[one.consumer], self._told.get((one.consumer, upto))
        if consumer.lost is None or upto < consumer.lost.first:
            # It was moved since; what it has lost after that is told for itself.
            return
        if told is None:
            self._wrong(one, f"was not told that it lost messages up to {upto}")
        elif consumer.lost.last <= upto:
            if told["messages"] != consumer.lost.messages:
                self._wrong(one, f"was told of {told}, and lost {consumer.lost}")
            consumer.lost = None

    def see_settle(self, one: Happening) -> None:
        epoch, positions, _ = one.what
        for position in positions:
            if (one.consumer, epoch, position) not in self._done:
                self._wrong(one, f"{position} is settled, and was not acknowledged")
        if epoch == self._epochs[one.consumer]:
            self._model.settle(one.consumer, positions, one.stored)

    def see_retry(self, one: Happening) -> None:
        epoch, attempts, _ = one.what
        for attempt in attempts:
            before = self._counted(one.consumer, epoch, attempt.position)
            for problem in self._attempts.check(one, epoch, attempt, before, is_last=False):
                self._wrong(one, problem)
            if epoch == self._epochs[one.consumer]:
                self._model.retry(one.consumer, attempt)

    def see_bury(self, one: Happening) -> None:
        epoch, attempts, _ = one.what
        for attempt in attempts:
            before = self._counted(one.consumer, epoch, attempt.position)
            for problem in self._attempts.check(one, epoch, attempt, before, is_last=True):
                self._wrong(one, problem)
            if epoch == self._epochs[one.consumer]:
                self._model.bury(one.consumer, attempt)

    def see_blamed(self, one: Happening) -> None:
        (attempt,) = one.what
        self._wrong(one, f"{attempt.position} is blamed for a crash, and only sockets had messages in hand")
        self._model.retry(one.consumer, attempt)

    def _counted(self, consumer: str, epoch: int, position: int) -> MessageRow | None:
        unsettled = self._model.consumers[consumer].unsettled
        return unsettled[position][0] if epoch == self._epochs[consumer] and position in unsettled else None

    def see_redrive(self, one: Happening) -> None:
        spacing_s, first_at, redriven = one.what
        assert isinstance(redriven, Redriven)
        self._model.redrive(_EVERYTHING, redriven.letters, spacing_s, first_at, one.stored)

    def see_discard(self, one: Happening) -> None:
        (count,) = one.what
        if self._model.discard(_EVERYTHING, count) != count:
            self._wrong(one, f"{count} dead letters were forgotten, so many there were not")

    # -- what the server sent, and got -----------------------------------------------------------------------

    def see_sent(self, one: Happening) -> None:
        sent, mark = one.what
        assert isinstance(mark, DeliveryMark)
        epoch = epoch_of(mark)
        before = self._attempts.latest(one.consumer, epoch, mark.position)
        handed = self._handed[sent] = Handed(sent, one.consumer, epoch, mark.position, mark.attempt, one.time)
        self._attempts.hand(handed)
        for problem in self._probes.hand(handed):
            self._wrong(one, problem)
        if epoch != self._epochs[one.consumer]:
            # It has been moved, and the server will hear of it; acks of this delivery are void.
            return
        self._check_pause(one)
        self._check_message(one, mark)
        self._check_order(one, mark)
        if before is not None and before.sent.connection == sent.connection and before.is_in_hand:
            lease_s = self._attempts.lease_s
            if one.time - before.time < lease_s:
                self._wrong(one, f"{mark.position} was sent again over the connection that has it in hand")

    def _check_pause(self, one: Happening) -> None:
        for name in ("", one.consumer):
            pause = self._pauses.get(name, _Pause())
            if one.wall < pause.until and one.time > pause.noticed and not self._world.circumstances.full:
                self._wrong(one, f"a message was sent in a pause of {name or 'the queue'!r}")

    def _check_message(self, one: Happening, mark: DeliveryMark) -> None:
        consumer, position = self._model.consumers[one.consumer], mark.position
        if position in consumer.unsettled:
            message = consumer.unsettled[position][0]
            if message.id != mark.id:
                self._wrong(one, f"{position} is {message.id}, {mark.id} was sent")
            if message.expires_at is not None and message.expires_at + self._lag_s <= one.stored:
                self._wrong(one, f"{position} was sent after its time to live")
            if message.retry_at > one.stored:
                self._wrong(one, f"{position} was sent in its pause, {message.retry_at - one.stored:.3f} s too early")
            if mark.attempt <= message.failures + message.losses:
                self._wrong(one, f"{position} was sent as attempt {mark.attempt}, counted are {message}")
        elif any(position == message.position for message, _, _ in self._model.kept):
            self._wrong(one, f"{position} was sent, which is settled")
        waiting = [other for other in consumer.unsettled if other <= mark.cursor]
        if waiting:
            self._wrong(one, f"{position} came with the cursor {mark.cursor}, and {waiting} are not settled")

    def _check_order(self, one: Happening, mark: DeliveryMark) -> None:
        epoch, unsettled = epoch_of(mark), self._model.consumers[one.consumer].unsettled
        own = unsettled.get(mark.position)
        if (one.consumer, epoch, mark.position) in self._done:
            self._wrong(one, f"{mark.position} was sent, which was acknowledged or given up")
        if self._order == "none" or own is None or (self._order == "key" and own[0].key is None):
            return
        for position, (message, _) in unsettled.items():
            if position >= mark.position or (one.consumer, epoch, position) in self._done:
                continue
            if self._order == "key" and message.key != own[0].key:
                continue
            if message.expires_at is None or one.stored < message.expires_at:
                self._wrong(one, f"{mark.position} was sent before {position} is done")

    def see_notice(self, one: Happening) -> None:
        sent, notice = one.what
        self._notices[sent] = one.consumer, notice

    def see_answer(self, one: Happening) -> None:
        sent, arguments = one.what
        if sent in self._notices:
            consumer, notice = self._notices[sent]
            self._told[consumer, notice["last_offset"]] = notice
        handed = self._handed.get(sent)
        if handed is None:
            return
        rejects = is_rejection(arguments)
        if not rejects or handed.epoch == self._epochs[handed.consumer]:
            self._probes.answer(handed, one.time, rejects=rejects)
        if handed.is_void:
            return
        self._attempts.answer(handed, one, arguments)
        if not rejects:
            self._done.add((handed.consumer, handed.epoch, handed.position))

    def see_back(self, one: Happening) -> None:
        life, sid = one.what
        self._attempts.come_back(life, sid)

    def see_died(self, one: Happening) -> None:
        (position,) = one.what
        epoch = self._attempts.last_epoch(one.consumer, position)
        self._done.add((one.consumer, self._epochs[one.consumer] if epoch is None else epoch, position))

    def see_left(self, one: Happening) -> None:
        life, connection, reason = one.what
        self._attempts.leave(life, connection, reason, one.time)
        self._probes.forget()

    def see_ended(self, one: Happening) -> None:
        # What was acknowledged and is not on the disk is forgotten.
        self._done.clear()
        self._attempts.end()
        self._probes.forget()

    # -- the end ---------------------------------------------------------------------------------------------

    def see_the_end(self) -> None:
        """Check what is left when all have had time for everything."""
        world, model = self._world, self._model
        for operation in world.operations.all:
            if operation.kind == "message" and operation.outcome == "accepted" and operation.sid not in self._stored:
                world.wrong(f"message {operation.sid} was accepted and is not stored")
        if model.delayed:
            world.wrong(f"messages never became due: {model.delayed}")
        now = world.disk.store.clock.now()
        backlog = world.disk.store._queues.found("q")
        for name, consumer in model.consumers.items():
            waiting = model.unsettled(name, now)
            if waiting:
                world.wrong(f"consumer {name} was never sent {waiting}, or never done with them")
            # With a full disk a notice that was read may stay, and be told again to who comes next.
            if consumer.lost is not None and not world.circumstances.full:
                world.wrong(f"consumer {name} was never told that it lost {consumer.lost}")
            info: ConsumerRow = backlog.consumer_info(backlog.consumers[name])
            if info.waiting != len(consumer.unsettled):
                world.wrong(
                    f"consumer {name} waits for {info.waiting} messages on the disk, not {consumer.unsettled}"
                )
        kept = [(one.consumer, one.position, one.failures, one.losses, one.history) for one in model.letters]
        found = [
            (one.consumer, one.position, one.failures, one.losses, one.history)
            for _, one in sorted(backlog.letters.items())
        ]
        if kept != found:
            world.wrong(f"the dead letters are {found}, they should be {kept}")
