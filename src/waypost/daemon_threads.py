"""Threads that do not keep the program from ending.

The executor of the standard library does: at its end a program waits for the executor's threads. A function that
runs for long then keeps a server's process alive after its store is closed, and a client's threads take no more work
before the program has closed its clients.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

__all__ = ["DaemonThreads"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class _Work:
    """A submitted function, and the future of its result."""

    future: Future[Any]
    call: Callable[[], Any]

    def run(self) -> None:
        """Call the function, unless the future was cancelled."""
        if self.future.set_running_or_notify_cancel():
            try:
                result = self.call()
            except BaseException as error:  # noqa: BLE001  # the future passes it to the caller
                self.future.set_exception(error)
            else:
                self.future.set_result(result)


class DaemonThreads(ThreadPoolExecutor):
    """Runs functions in daemon threads; an idle thread takes the next function.

    Args:
        name: The prefix of the threads' names.
        most: The most threads, from 1; ``None`` for no limit. With 1, functions run in the order of submission.
    """

    def __init__(self, name: str, most: int | None = None) -> None:
        super().__init__()
        self._name = name
        self._most = most
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._resting = threading.Semaphore(0)
        self._count = 0
        self._is_shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in a thread.

        While the interpreter ends, no thread can start. The function then runs in the caller's thread.

        Args:
            fn: The function.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            A future of the function's result.

        Raises:
            RuntimeError: The threads were ended by `shutdown`.
        """
        if self._is_shut:
            raise RuntimeError(f"the threads {self._name!r} were ended, and run no more functions")
        future: Future[T] = Future()
        work = _Work(future, partial(fn, *args, **kwargs))
        if self._resting.acquire(blocking=False) or self._count == self._most:
            self._work.put(work)
            return future
        thread = threading.Thread(
            target=self._serve, args=(work,), name=f"{self._name}-{self._count + 1}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            work.run()
        else:
            self._count += 1
        return future

    def _serve(self, work: _Work | None) -> None:
        while work is not None:
            work.run()
            del work  # frees the function's arguments now, not when the next function arrives
            self._resting.release()
            work = self._work.get()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads after their submitted functions; does not wait for that.

        Args:
            wait: Has no effect.
            cancel_futures: Whether to cancel the functions that have not begun.
        """
        self._is_shut = True
        if cancel_futures:
            with suppress(Empty):
                while True:
                    if (work := self._work.get_nowait()) is not None:
                        work.future.cancel()
        for _ in range(self._count):
            self._work.put(None)
