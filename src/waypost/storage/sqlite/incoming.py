"""The writes that wait for a store's writer, and how they are gathered into batches."""

from __future__ import annotations

import queue
import threading

from waypost.storage.sqlite.jobs import Write, future_of, size_of

__all__ = ["Incoming"]

# The limit of a transaction, in bytes; a job counts for more than it holds, as the loop has to hear of it.
_BATCH_BYTES = 8 << 20
_JOB_BYTES = 8 << 10
# For how long deferred writes gather, unless somebody waits for something.
_GATHER_S = 0.02


class Incoming:
    """A queue of writes, filled by the event loop and emptied by the writer's thread."""

    __slots__ = ("_behind", "_closing", "_hurry", "_jobs")

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        # Whether somebody waits, whether this is the end, whether the last batch was cut off at its limit.
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._behind = False

    # -- in the event loop ----------------------------------------------------------------------------------

    def put(self, job: Write) -> None:
        """Add a write that somebody waits for."""
        self._jobs.put(job)
        if not self._hurry.is_set():
            self._hurry.set()

    def put_deferred(self, job: Write) -> None:
        """Add a write that nobody waits for."""
        self._jobs.put(job)

    def close(self) -> None:
        """Add nothing any more."""
        self._jobs.put(None)
        self._closing.set()
        self._hurry.set()

    # -- in the writer's thread -----------------------------------------------------------------------------

    def first(self, timeout_s: float | None) -> Write | None:
        """Wait for the next write; ``None`` at the end.

        Raises:
            queue.Empty: There was none in time.
        """
        return self._jobs.get(timeout=timeout_s)

    def gather(self, job: Write | None) -> tuple[list[Write], bool]:
        """Take what there is behind a first write; also tells whether there may be more."""
        batch: list[Write] = []
        size = 0
        if job is not None and future_of(job) is None and not self._behind:
            self._hurry.wait(_GATHER_S)
        # What is asked for from here on is seen below, or hurries the next batch.
        self._hurry.clear()
        self._behind = False
        while job is not None:
            batch.append(job)
            size += size_of(job) + (_JOB_BYTES if future_of(job) else 0)
            if size >= _BATCH_BYTES:
                self._behind = True
                return batch, True
            if self._jobs.empty():
                return batch, True
            job = self._jobs.get()
        return batch, False

    def gather_behind(self, pause_s: float) -> tuple[list[Write], bool]:
        """Wait a while, and take all that is there, behind what could not be written."""
        self._closing.wait(pause_s)
        batch: list[Write] = []
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is None:
                return batch, False
            batch.append(job)
        return batch, True
