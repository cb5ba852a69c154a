"""Who had which message in hand, and whether a delivery that ended without an ack was counted as it must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

from tests.sim.history import QueuePlan
from tests.sim.queue_log import Happening, Sent
from tests.sim.world import World
from waypost.server.queues.verdict import MOST_BREAKS
from waypost.storage.queue_records import Attempt, MessageRow

__all__ = ["Attempts", "Handed", "is_rejection"]

_EPSILON_S = 1e-4
_FINAL = {"client namespace disconnect", "server namespace disconnect", "parse error"}
_ON_PURPOSE = {"client namespace disconnect", "server namespace disconnect", "server shutting down"}


def is_rejection(arguments: list[Any]) -> bool:
    """Tell whether an answer rejects."""
    return len(arguments) == 1 and isinstance(arguments[0], dict) and bool(arguments[0].get("nack"))


@dataclass(slots=True, eq=False)
class Handed:
    """A delivery.

    Attributes:
        sent: Over which connection it went.
        consumer: To which consumer.
        epoch: In which epoch.
        position: Which message.
        attempt: Which attempt it is, as it says itself.
        time: When it was sent.
        ended: From when on it was surely not in hand any more: answered, the session gone, or sent to another.
        left: From when on its connection was gone; it may still be in hand, for its session may recover.
        lease_ended: From when on it was not, because a lease had ended or somebody else was served.
        is_answered: Whether an answer ended it.
        rejections: The answers that reject it.
        left_on_purpose: From when on its connection was gone, if that was ended on purpose.
        is_void: Whether no answer counts any more.
    """

    sent: Sent
    consumer: str
    epoch: int
    position: int
    attempt: int
    time: float
    ended: float = inf
    left: float = inf
    lease_ended: float = inf
    is_answered: bool = False
    rejections: tuple[tuple[float, dict[str, Any]], ...] = ()
    is_void: bool = False
    left_on_purpose: float = inf

    @property
    def is_in_hand(self) -> bool:
        """Whether it is still in hand, for all that was seen."""
        return self.ended == inf and self.lease_ended == inf

    def was_in_hand(self, time: float) -> bool:
        """Tell whether it was in hand at a time."""
        return self.time <= time < min(self.ended, self.lease_ended)


class Attempts:
    """All deliveries of a history.

    Args:
        world: The world.
        plan: What holds for the queue.

    Attributes:
        lease_s: The shortest time that a lease lasts.
        max_losses: After how many lost connections no delivery follows, if at all.
    """

    def __init__(self, world: World, plan: QueuePlan) -> None:
        one = world.circumstances
        self.lease_s = min(one.lease_s, plan.max_lease_s)
        self.max_losses = plan.max_losses
        self._plan = plan
        self._max_failures = one.max_failures
        self._handed: list[Handed] = []
        self._latest: dict[tuple[str, int, int], Handed] = {}
        self._returned: set[tuple[int, str]] = set()

    # -- what happened ---------------------------------------------------------------------------------------

    def latest(self, consumer: str, epoch: int, position: int) -> Handed | None:
        """Return the last delivery of a message in this life."""
        return self._latest.get((consumer, epoch, position))

    def last_epoch(self, consumer: str, position: int) -> int | None:
        """Return the epoch of the last delivery of a message in this life."""
        epochs = [x.epoch for x in self._handed if (x.consumer, x.position) == (consumer, position)]
        return epochs[-1] if epochs else None

    def hand(self, handed: Handed) -> None:
        """Take a delivery; what went before of the same message is not in hand any more."""
        key = (handed.consumer, handed.epoch, handed.position)
        before = self._latest.get(key)
        if before is not None:
            # Its ack counts still: for the message.
            before.ended = min(before.ended, handed.time)
        self._latest[key] = handed
        self._handed.append(handed)

    def answer(self, handed: Handed, one: Happening, arguments: list[Any]) -> None:
        """Take an answer that arrived."""
        latest = self._latest[handed.consumer, handed.epoch, handed.position]
        if not is_rejection(arguments):
            latest.ended = min(latest.ended, one.time)
        elif handed is latest:
            handed.rejections += ((one.time, arguments[0]),)
        handed.is_answered = one.time <= handed.ended
        handed.ended = min(handed.ended, one.time)
        handed.is_void = True

    def leave(self, life: int, connection: int, reason: str, time: float) -> None:
        """Take the end of a connection, and of its session if that is final."""
        sids = {one.sent.sid for one in self._handed if (one.sent.life, one.sent.connection) == (life, connection)}
        for handed in self._handed:
            if handed.sent.life == life and handed.sent.sid in sids:
                if handed.ended == inf and reason in _ON_PURPOSE:
                    handed.left_on_purpose = min(handed.left_on_purpose, time)
                handed.left = min(handed.left, time)
                if reason in _FINAL:
                    handed.ended = min(handed.ended, time)
                    handed.is_void = True

    def come_back(self, life: int, sid: str) -> None:
        """Take the return of a session."""
        self._returned.add((life, sid))

    def end(self) -> None:
        """Take the end of a server's life."""
        self._latest.clear()
        self._handed.clear()

    # -- what was made of it ---------------------------------------------------------------------------------

    def check(
        self, one: Happening, epoch: int, attempt: Attempt, before: MessageRow | None, *, is_last: bool
    ) -> Iterator[str]:
        """Check an attempt that is being stored, as the last one or with another to follow."""
        what = f"{attempt.position} ({attempt.kind}, {attempt.failures} failures, {attempt.losses} losses)"
        is_lost = self.max_losses is not None and attempt.losses >= self.max_losses
        must_die = attempt.failures >= self._max_failures or is_lost or attempt.breaks >= MOST_BREAKS
        if is_last != must_die:
            yield f"{what} is {'given up too early' if is_last else 'not given up'}"
        counted = (before.failures, before.losses) if before is not None else None
        if is_last and counted == (attempt.failures, attempt.losses):
            # It came so far by crashes, and is not sent once more.
            return
        # On the store's clock, which only an opening sets on.
        decided = attempt.at - one.stored + one.time
        handed = self._find(one.consumer, epoch, attempt, decided)
        if handed is None:
            yield f"{what} ended a delivery that there was not"
            return
        if attempt.kind == "rejected":
            yield from self._check_rejected(handed, attempt, what, is_last=is_last)
        elif attempt.kind == "expired":
            handed.lease_ended = min(handed.lease_ended, decided)
            if decided - handed.time < self.lease_s - _EPSILON_S:
                yield f"the lease of {what} is said to have ended after {decided - handed.time:.3f} s"
        else:
            yield from self._check_lost(handed, decided, what)
        yield from self._check_breaks(attempt, before, what)
        if before is not None and attempt.failures + attempt.losses <= before.failures + before.losses:
            yield f"{what} is stored, counted before were {before.failures} failures, {before.losses} losses"

    def _find(self, consumer: str, epoch: int, attempt: Attempt, decided: float) -> Handed | None:
        """Return the delivery that an attempt ended: the last one before it that says it is this attempt."""
        found = None
        for one in self._handed:
            is_it = (one.consumer, one.epoch, one.position) == (consumer, epoch, attempt.position)
            counts = one.attempt == attempt.failures + attempt.losses
            if is_it and counts and one.time <= decided + _EPSILON_S:
                found = one
        return found

    def _check_rejected(self, handed: Handed, attempt: Attempt, what: str, *, is_last: bool) -> Iterator[str]:
        if not handed.rejections:
            yield f"{what} was not rejected"
            return
        if is_last:
            return
        pause_s = attempt.retry_at - attempt.at if attempt.retry_at else 0.0
        wanted = handed.rejections[0][1].get("retry_in")
        if wanted is not None:
            shortest = longest = float(wanted)
        else:
            base = min(self._plan.first_backoff_s * 2.0 ** (attempt.failures - 1), 300.0)
            shortest, longest = base * (1 - self._plan.backoff_jitter), base * (1 + self._plan.backoff_jitter)
        if not shortest - _EPSILON_S <= pause_s <= longest + _EPSILON_S:
            yield f"{what} pauses {pause_s:.3f} s, it should be {shortest:.3f} to {longest:.3f} s"

    def _check_breaks(self, attempt: Attempt, before: MessageRow | None, what: str) -> Iterator[str]:
        """Check the number of connections in a row that broke."""
        if attempt.kind != "lost":
            if attempt.breaks:
                yield f"{what} was answered, and says that {attempt.breaks} connections in a row broke"
            return
        # Of several that ended before they could be stored, only the last one is. A client that was silent twice over
        # one connection is counted once.
        fewest, most = 0, attempt.losses - (0 if before is None else before.losses)
        if before is not None and before.breaks_since == attempt.breaks_since:
            most += before.breaks
            fewest = before.breaks if attempt.failures == before.failures else 0
        if not fewest <= attempt.breaks <= most:
            yield f"{what} says that {attempt.breaks} connections in a row broke, and {fewest} to {most} did"

    def _check_lost(self, handed: Handed, decided: float, what: str) -> Iterator[str]:
        # What was decided before waits for its commit.
        if handed.left_on_purpose <= decided:
            yield f"{what} is blamed for a connection that was ended on purpose"
        for other in self._handed:
            if other is handed or (handed.sent.life, handed.sent.sid) in self._returned:
                break
            same = (other.sent.life, other.sent.sid, other.consumer, other.epoch) == (
                handed.sent.life, handed.sent.sid, handed.consumer, handed.epoch,
            )  # fmt: skip
            # An answer may have come at that very moment, just before.
            if other.is_answered and other.ended <= decided + _EPSILON_S:
                continue
            if same and other.time <= decided and min(other.ended, other.lease_ended) >= decided - _EPSILON_S:
                yield f"{what} is blamed for the loss of a connection which had {other.position} for longer"
        for other in self._handed:
            same = (other.sent.life, other.sent.sid, other.consumer) == (
                handed.sent.life, handed.sent.sid, handed.consumer,
            )  # fmt: skip
            if same and other.time <= decided:
                other.lease_ended = min(other.lease_ended, decided)
