"""Threads that keep no program from ending.

Those of the standard library's executor do: a program that ends waits for them, and before it has closed what it uses
they take no more work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

__all__ = ["DaemonThreads"]

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """Runs functions in daemon threads; a thread that is done waits for the next function.

    Args:
        name: What the threads are called.
        most: How many run at the same time; ``None`` for as many as are asked for. With 1, functions run in order.
    """

    def __init__(self, name: str, most: int | None = None) -> None:
        super().__init__()
        self._name = name
        self._most = most
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._resting = threading.Semaphore(0)
        self._count = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function run; when the interpreter ends and starts no thread any more, in the caller's.

        Args:
            fn: The function.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What is done when it has returned or raised.
        """
        future: Future[T] = Future()
        work = partial(_fulfil, future, partial(fn, *args, **kwargs))
        if self._resting.acquire(blocking=False) or self._count == self._most:
            self._work.put(work)
            return future
        thread = threading.Thread(
            target=self._serve, args=(work,), name=f"{self._name}-{self._count + 1}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            work()
        else:
            self._count += 1
        return future

    def _serve(self, work: Callable[[], None] | None) -> None:
        while work is not None:
            work()
            del work  # what it holds need not live until the next one comes
            self._resting.release()
            work = self._work.get()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end after what they were given; does not wait for that."""
        for _ in range(self._count):
            self._work.put(None)


def _fulfil(future: Future[T], call: Callable[[], T]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  # whoever waits gets it
            future.set_exception(error)
        else:
            future.set_result(result)
