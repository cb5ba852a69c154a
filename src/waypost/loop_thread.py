"""An event loop in its own thread, for programs without one.

All its threads are daemons, so it does not keep the program from ending. It ends when its last user releases it. At
the program's exit it has a moment to close gracefully.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeAlias, TypeVar

from waypost.daemon_threads import DaemonThreads
from waypost.errors import ConfigurationError
from waypost.loop_calls import call_on

__all__ = ["LoopThread"]

P = ParamSpec("P")
T = TypeVar("T")
Closing: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

_CLOSE_TIMEOUT_S = 2.0
_END_TIMEOUT_S = 2.5


class LoopThread:
    """Runs coroutines for other threads; its own thread starts with the first coroutine.

    Args:
        name: The thread's name.
        closing: A method to await before the loop ends. If its object no longer exists, it is not called.
    """

    def __init__(self, name: str, closing: Closing | None = None) -> None:
        self._name = name
        self._closing = None if closing is None else weakref.WeakMethod(closing)
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def run(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function on the loop, await its result, and block until then. Ctrl-C cancels the call.

        Args:
            function: The function.
            *args: Its arguments.
            **kwargs: Its named arguments.

        Returns:
            The awaited result.

        Raises:
            ConfigurationError: The caller runs on the loop itself, and would wait for itself.
            Exception: Any error that the function raises.
        """
        running = self._start()
        if running.is_current:
            expected = "a plain function, which has a thread of its own; an async one would block the client"
            raise ConfigurationError("caller", "a function on the client's own loop", expected)
        return call_on(running.loop, function, *args, **kwargs)

    def stop(self) -> None:
        """End the loop and its tasks; does nothing if the loop has not started."""
        if self._running is not None:
            atexit.unregister(self._running.end)
            self._running.end()

    def _start(self) -> _Running:
        if self._running is not None:
            return self._running
        with self._lock:
            if self._running is None:
                self._running = _Running(self._name, self._closing)
                atexit.register(self._running.end)
                weakref.finalize(self, _let_go, self._running).atexit = False
            return self._running


def _let_go(running: _Running) -> None:
    # The garbage collector may call this in any thread, so it must not wait.
    atexit.unregister(running.end)
    running.begin_to_end()


class _Running:
    """A loop and its thread, without a reference to their users.

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
        """Close and end the loop, and wait a moment for that."""
        self.begin_to_end()
        if not self.is_current:
            self._thread.join(_END_TIMEOUT_S)

    def begin_to_end(self) -> None:
        """Schedule the close and the end of the loop."""
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
