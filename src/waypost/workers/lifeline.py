"""Ends a worker at once when its parent is gone: nothing that it does any more could be stored."""

from __future__ import annotations

import os
import threading

__all__ = ["end_now", "hold_on"]

_CODE = 1
_STDERR = 2


def hold_on(descriptor: int, number: int) -> None:
    """End this process, without any cleaning up, once nobody has the other end of a pipe any more.

    It is a thread of its own, so that a worker whose loop is stuck ends too.

    Args:
        descriptor: The end of a pipe from which nothing ever comes.
        number: The worker's number, for the line that it writes then.
    """

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        end_now(number, "its parent is gone")

    threading.Thread(target=wait, name="waypost-lifeline", daemon=True).start()


def end_now(number: int, reason: str) -> None:
    """End this process, without any cleaning up.

    Args:
        number: The worker's number.
        reason: Why, in words.
    """
    # By the system's call, as the log may be locked by a thread that will not go on.
    os.write(_STDERR, f"waypost: worker {number} ends, {reason}\n".encode())
    os._exit(_CODE)
