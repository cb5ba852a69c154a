"""An event loop whose time is virtual: it jumps to the next timer instead of waiting, and knows lives that ended.

What a process leaves behind when it is killed must never run again. So everything belongs to the `Life` in whose
context it was scheduled, and the loop drops what belongs to one that is over: no ``finally``, no callback, nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
import selectors
import warnings
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVarTuple

__all__ = ["LIFE", "Life", "Stuck", "VirtualLoop"]


class Life:
    """The time from a process's start to its end.

    Attributes:
        number: The how many-eth it is.
        over: Whether it has ended.
        is_frozen: Whether nothing of it runs for now.
        held: What would have run meanwhile, in order.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.over = False
        self.is_frozen = False
        self.held: list[asyncio.Handle] = []


LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("LIFE", default=None)


_MAX_TURNS = 200_000

_Ts = TypeVarTuple("_Ts")


class Stuck(Exception):
    """Nothing is left that could ever happen, or it happens without end."""


class _Selector(selectors.BaseSelector):
    """Waits by moving the clock. There is no input but the loop's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = 0
        self.at_rest: Callable[[], None] = lambda: None
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, 0, events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        return self._keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        if timeout is None:
            raise Stuck("nothing is left that could ever happen")
        if self.turns > _MAX_TURNS:
            self.turns = 0
            raise Stuck(f"it goes round in circles at {self.now}")
        if timeout > 0:
            self.at_rest()
        # Each turn takes a moment, so that a timer that is due is also past.
        self.now = math.nextafter(self.now + timeout, math.inf)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See above.

    Attributes:
        tasks: Every task there was; strong references, since collecting one would run its ``finally`` blocks.
        problems: What callbacks raised.
    """

    def __init__(self) -> None:
        self._clock = _Selector()
        self.tasks: list[asyncio.Task[Any]] = []
        self.problems: list[str] = []
        self._lives: dict[asyncio.Task[Any], Life] = {}
        super().__init__(self._clock)
        # No timer fires early, not even by the nanosecond that asyncio allows.
        _internals(self)._clock_resolution = 0.0
        self.set_task_factory(self._make_task)
        self.set_exception_handler(lambda _loop, context: self._note_problem(context))

    def time(self) -> float:
        return self._clock.now

    def when_at_rest(self, look: Callable[[], None]) -> None:
        """Call something whenever all is done that was to be done at a moment, before time moves on."""
        self._clock.at_rest = look

    def _make_task(
        self,
        _loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        *,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        assert not isinstance(coro, Generator)
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, context=context)
        self.tasks.append(task)
        life = LIFE.get() if context is None else context.get(LIFE)
        if life is not None:
            self._lives[task] = life
        return task

    def _note_problem(self, context: dict[str, Any]) -> None:
        problem = f"{context.get('message')}: {context.get('exception')!r}"
        # Of those who would have looked at it, some may have been killed.
        if not ("never retrieved" in problem and any(life.over for life in self._lives.values())):
            self.problems.append(problem)

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = super().call_soon(callback, *args, context=context)
        life = LIFE.get() if context is None else context.get(LIFE)
        if life is not None and life.over:
            handle.cancel()
        elif life is not None and life.is_frozen:
            _internals(self)._ready.remove(handle)
            life.held.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        life = LIFE.get() if context is None else context.get(LIFE)
        if life is not None and life.is_frozen:
            _internals(self)._scheduled.remove(handle)
            heapq.heapify(_internals(self)._scheduled)
            life.held.append(handle)
        return handle

    def freeze(self, life: Life) -> None:
        """Let nothing of a life run until it is thawed, no timer either: its process stands still."""
        if life.is_frozen:
            return
        life.is_frozen = True
        internals = _internals(self)
        for handles in (internals._ready, internals._scheduled):
            mine = [one for one in handles if one._context is not None and one._context.get(LIFE) is life]
            for handle in mine:
                handles.remove(handle)
            life.held += mine
        heapq.heapify(internals._scheduled)

    def thaw(self, life: Life) -> None:
        """Let a life go on; what fell due meanwhile happens now."""
        life.is_frozen = False
        held, life.held = life.held, []
        for handle in held:
            if isinstance(handle, asyncio.TimerHandle):
                heapq.heappush(_internals(self)._scheduled, handle)
            else:
                _internals(self)._ready.append(handle)

    def end(self, life: Life) -> None:
        """Let nothing of a life run any more."""
        life.over = True
        internals: Any = self
        for handle in life.held:
            handle.cancel()
        life.held.clear()
        for handle in [*internals._ready, *internals._scheduled]:
            if handle._context is not None and handle._context.get(LIFE) is life:
                handle.cancel()

    def unheard(self) -> list[str]:
        """List what tasks raised that nobody looked at."""
        return [
            f"nobody heard that {task.get_coro()!r} raised {task.exception()!r}"
            for task in self.tasks
            if task.done() and _internals(task)._log_traceback and not self._is_dead(task)
        ]

    def _is_dead(self, task: asyncio.Task[Any]) -> bool:
        life = self._lives.get(task)
        return life is not None and life.over

    def bury(self) -> None:
        """Close what was still running when everything ended; called from within the loop, after all checks."""
        for life in {life for life in self._lives.values() if not life.over}:
            self.end(life)
        # What a ``finally`` begins belongs to nobody who lives, and is closed in its turn.
        beyond = Life(-1)
        beyond.over = True
        context = contextvars.copy_context()
        context.run(LIFE.set, beyond)
        with warnings.catch_warnings():
            # A task that never began never awaits the coroutine that it was to wait for.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            for task in self.tasks:
                _internals(task)._log_destroy_pending = False
                _internals(task)._log_traceback = False
                if not task.done():
                    try:
                        context.run(_internals(task.get_coro()).close)
                    except (RuntimeError, ValueError):
                        # It awaits in a ``finally``, or is the one that runs this.
                        continue
        # What the closed ones have asked for in their ``finally`` would start others in the loop's last turn.
        # A copy: a handle that is let go may end a coroutine, which asks for more.
        for handle in list(_internals(self)._ready):
            handle.cancel()


def _internals(thing: object) -> Any:
    return thing
