"""Whether a consumer probes: after failures in a row, one message at a time until one succeeds. Pure.

A dependency that is away for an hour then costs attempts of a few messages, not of all.
"""

from __future__ import annotations

from math import inf

from waypost.retrying import RetryPolicy

__all__ = ["FEWEST", "MOST", "Probing"]

FEWEST, MOST = 3, 10
"""The fewest and the most failures in a row after which a consumer probes."""


class Probing:
    """The failures of one consumer in a row.

    The consumer probes after as many of them as it has messages in hand, within `FEWEST` and `MOST`. It then has a
    backoff of its own, which begins when it begins to probe, and grows with each probe that fails. A message that
    fails again right after itself is the exception: that says something of the message, and the message has its own
    backoff.

    Attributes:
        failures: The number of failures since the last success.
        is_active: Whether the consumer probes.
    """

    __slots__ = ("_failed", "_in_hand", "_probe", "_ready_at", "_steps", "failures", "is_active")

    def __init__(self) -> None:
        self.failures = 0
        self.is_active = False
        # The most messages that were in hand at one of the failures.
        self._in_hand = 0
        # The message that failed last, the one that is out as a probe, and the failures that the backoff counts.
        self._failed: int | None = None
        self._probe: int | None = None
        self._steps = 0
        self._ready_at = -inf

    def may_hand_out(self, now: float) -> bool:
        """Return whether a message may go out now."""
        return not self.is_active or (self._probe is None and self._ready_at <= now)

    @property
    def next_at(self) -> float:
        """The earliest time of the next probe; minus infinity if none is waited for."""
        return self._ready_at if self.is_active and self._probe is None else -inf

    def handed(self, position: int) -> None:
        """Note that a message went out."""
        if self.is_active:
            self._probe = position

    def returned(self, position: int) -> None:
        """Note that a message came back without a success or a failure: its connection was lost, say."""
        if self._probe == position:
            self._probe = None

    def failed(self, position: int, *, in_hand: int, now: float, backoff: RetryPolicy, chance: float) -> bool:
        """Note a failure.

        Args:
            position: The message that failed.
            in_hand: The number of messages that the consumer had in hand, this one included.
            now: The time, in seconds.
            backoff: The pauses between probes.
            chance: A random number from 0 to 1, for the jitter.

        Returns:
            Whether the consumer begins to probe with this failure.
        """
        self.failures += 1
        # Those that fail together are in hand one less each time.
        self._in_hand = max(self._in_hand, in_hand)
        is_probe, is_same = self._probe == position, self._failed == position
        self._failed = position
        self.returned(position)
        begins = not self.is_active and self.failures >= min(max(self._in_hand, FEWEST), MOST)
        self.is_active = self.is_active or begins
        # What was out already when the consumer began to probe tells nothing new.
        if (begins or is_probe) and not is_same:
            self._steps += 1
            self._ready_at = now + backoff.pause_s(self._steps, chance)
        return begins

    def succeeded(self) -> bool:
        """Note a success. Returns whether the consumer has probed until now."""
        was_active = self.is_active
        self.failures, self.is_active = 0, False
        self._in_hand = 0
        self._failed = self._probe = None
        self._steps, self._ready_at = 0, -inf
        return was_active
