"""Calls a function when a signal asks the demo to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

__all__ = ["on_stop_signal"]

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def on_stop_signal(stop: Callable[[], object]) -> Iterator[None]:
    """Call ``stop`` in the running loop on SIGINT, SIGTERM or SIGHUP, until the block ends.

    The signals have no other effect within the block.
    """
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
