"""Random numbers and clocks, passed in so that a simulation can replace them."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Environment", "new_id"]


def new_id() -> str:
    """Return a new secret id: 120 random bits as 20 URL-safe characters, as Node's server makes them."""
    return secrets.token_urlsafe(15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Random numbers and clocks, passed in so that a simulation can replace them. Deadlines use the loop's time.

    Attributes:
        new_id: Makes a new secret id.
        wall_time: Returns the wall time, in seconds since 1970; only for times of day. What is stored is measured on
            the clock of the store.
        steady_time: Returns the time on a clock that nobody sets, in seconds; the store's clock goes on with it.
        random: Returns a number from 0 up to 1, for jitter.
        ticks_ns: Returns the time of a clock that counts nanoseconds, to measure how long something took.
    """

    new_id: Callable[[], str] = new_id
    wall_time: Callable[[], float] = time.time
    steady_time: Callable[[], float] | None = None
    random: Callable[[], float] = random.random
    ticks_ns: Callable[[], int] = time.perf_counter_ns
