"""An event loop on a thread of its own, for programs that have none.

It keeps no program from ending: all its threads are daemons. It ends when nobody holds it any more; at the program's
exit it gets a moment to close in order.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from waypost.client.daemon_threads import DaemonThreads
from waypost.errors import ConfigurationError

__all__ = ["LoopThread"]

T = TypeVar("T")
Closing: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

_CLOSE_TIMEOUT_S = 2.0
_END_TIMEOUT_S = 2.5


class LoopThread:
    """Runs coroutines for other threads; its own thread begins with the first.

    Args:
        name: The thread's name.
        closing: A method of an object on the loop, awaited before the loop ends if the object is still there.
    """

    def __init__(self, name: str, closing: Closing | None = None) -> None:
        self._name = name
        self._closing = None if closing is None else weakref.WeakMethod(closing)
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and block until it is done; whatever interrupts that, as Ctrl-C does, cancels it.

        Args:
            coroutine: What to run.

        Returns:
            What it returns.

        Raises:
            ConfigurationError: It was called on the loop itself, and would wait for itself.
        """
        running = self._start()
        if running.is_current:
            coroutine.close()
            expected = "a plain function, which has a thread of its own; an async one would block the client"
            raise ConfigurationError("caller", "a function on the client's own loop", expected)
        future = asyncio.run_coroutine_threadsafe(coroutine, running.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop, and what runs on it; does nothing if it has not begun."""
        if self._running is not None:
            atexit.unregister(self._running.end)
            self._running.end()

    def _start(self) -> _Running:
        with self._lock:
            if self._running is None:
                self._running = _Running(self._name, self._closing)
                atexit.register(self._running.end)
                weakref.finalize(self, _let_go, self._running).atexit = False
            return self._running


def _let_go(running: _Running) -> None:
    # Garbage is collected in any thread, and none may be made to wait for this.
    atexit.unregister(running.end)
    running.begin_to_end()


class _Running:
    """A loop and its thread, which do not know who holds them.

    Attributes:
        loop: The loop.
    """

    def __init__(self, name: str, closing: Callable[[], Closing | None] | None) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(DaemonThreads(f"{name}-worker"))
        self._closing = closing
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller is on the loop."""
        return threading.current_thread() is self._thread

    def _serve(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT_S))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def end(self) -> None:
        """Close and end, and wait a moment for that."""
        self.begin_to_end()
        if not self.is_current:
            self._thread.join(_END_TIMEOUT_S)

    def begin_to_end(self) -> None:
        """Close and end soon."""
        if self._thread.is_alive() and not self.loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._close(), self.loop)

    async def _close(self) -> None:
        closing = None if self._closing is None else self._closing()
        try:
            if closing is not None:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await closing()
        finally:
            self.loop.stop()
