"""Limits how many requests a key may make in a second."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from waypost.operations.http.api_keys import ApiKey
from waypost.operations.http.problems import Problem

__all__ = ["Pace"]


class Pace:
    """The requests that each key has left: a bucket for each, which refills within a second.

    Args:
        now: Returns the time, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        # What is left in the bucket of a key, and since when; an entry for each key that was ever valid.
        self._left: dict[str, tuple[float, float]] = {}

    def count(self, key: ApiKey) -> None:
        """Count a request.

        Raises:
            Problem: The key has made too many.
        """
        now = self._now()
        most = float(key.requests_per_s)
        left, since = self._left.get(key.sha256, (most, now))
        left = min(most, left + (now - since) * most)
        if left < 1:
            self._left[key.sha256] = (left, now)
            detail = f"expected at most {key.requests_per_s} requests per second with key {key.name}; send fewer"
            raise Problem(429, "too_many_requests", detail, retry_after_s=ceil((1 - left) / most))
        self._left[key.sha256] = (left - 1, now)
