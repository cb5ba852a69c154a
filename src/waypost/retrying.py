"""The pauses between attempts of an operation that fails: one policy for server, stores and client.

It is pure: the caller passes random numbers, and does the waiting.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STORE_RETRIES", "Backoff", "RetryPolicy"]

_MOST_DOUBLINGS = 64
"""Already beyond any limit; 2.0**1024 would overflow."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Pauses that double with each failure, up to a limit. The policy never gives up; its user may.

    The jitter does not vanish at the limit, where a fleet of clients would reconnect in step: the longest pause has
    jitter too, below the limit.

    Attributes:
        first_s: The pause after the first failure, before jitter, in seconds; from 0.
        longest_s: The longest pause, jitter included, in seconds.
        jitter: The share by which a random number lengthens or shortens a pause, from 0 to 1.
    """

    first_s: float
    longest_s: float
    jitter: float = 0.0

    def pause_s(self, failures: int, chance: float = 0.5) -> float:
        """Return the pause before the next attempt.

        Args:
            failures: The number of failures in a row, from 1.
            chance: A random number from 0 to 1; it has no effect without jitter.

        Returns:
            The pause, in seconds.
        """
        doubled_s = self.first_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
        spread = 1 + self.jitter * (2 * chance - 1)
        return min(doubled_s, self.longest_s / (1 + self.jitter)) * spread


STORE_RETRIES = RetryPolicy(first_s=0.5, longest_s=30.0)
"""The policy for a store that fails, such as one on a full disk: retry until it answers or is closed."""


class Backoff:
    """The failures of one task in a row, and the pauses after them.

    Args:
        policy: The policy.

    Attributes:
        failures: The number of failures in a row.
    """

    __slots__ = ("_policy", "failures")

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.failures = 0

    def next_s(self, chance: float = 0.5) -> float:
        """Count a failure, and return the pause before the next attempt.

        Args:
            chance: A random number from 0 to 1, for the jitter.

        Returns:
            The pause, in seconds.
        """
        self.failures += 1
        return self._policy.pause_s(self.failures, chance)

    def reset(self) -> None:
        """Start again with the first pause, after a success."""
        self.failures = 0
